"""From the headers of a call to its organisation and actor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, Literal

from counterfoil.application.callers import Clock, Presented
from counterfoil.domain.access import Actor
from counterfoil.domain.attribution import TILL, Named, attribute
from counterfoil.domain.callers import may_call
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import Refusal
from counterfoil.http.routing import Call, Context

# The header with the kind of a name, the header with the name, and the kind where none is needed.
_ATTRIBUTIONS: Final = (
    ("X-CAP-API-ATTRIBUTION-ENTITY-TYPE", "X-CAP-API-ATTRIBUTION-ENTITY-CODE", TILL),
    ("X-CAP-API-ATTRIBUTION-LOOKUP-TYPE", "X-CAP-API-ATTRIBUTION-LOOKUP", None),
    (None, "X-CAP-API-ATTRIBUTION-TILL-CODE", TILL),
)
_ATTRIBUTION_HEADERS: Final = frozenset(
    name.lower().encode() for kind, header, _ in _ATTRIBUTIONS for name in (kind, header) if name
)


def read_clock() -> Clock:
    """The clock of this process: for sessions and caches, never for what is stored."""
    return Clock(time.time(), time.monotonic())


async def authenticate(
    context: Context,
    call: Call,
    *,
    organisation_header: Literal["required", "optional"] | None = None,
    user_token: bool = True,
) -> tuple[Organisation, Actor]:
    """Verify the caller; raises IdentityNotVerified, WrongOrganisation, Throttled or Busy.

    The organisation's header is needed where something is changed, and must agree wherever it is sent.
    `user_token` says whether the call looks at X-CAP-UI-AUTH-TOKEN. An empty header is like none.
    """
    headers = call.headers
    if organisation_header is None:
        organisation_header = "required" if call.method in ("POST", "PUT") else "optional"
    shown = Presented(
        authorization=headers.get(b"authorization", b""),
        access_token=headers.get(b"x-cap-api-oauth-token", b"").strip(),
        organisation=headers.get(b"x-cap-api-auth-org-id", b"").strip() or None,
        token=headers.get(b"x-cap-ui-auth-token", b"").strip() if user_token else b"",
        source=call.client_address,
        organisation_required=organisation_header == "required",
    )
    return await context.callers.identify(shown, read_clock())


def admit(call: Call, organisation: Organisation, actor: Actor) -> Actor:
    """The actor, calling for the unit that the headers name; raises when it may not make this call at all."""
    credential = organisation.credentials[actor.login]
    refused = may_call(
        credential.access_group, organisation.access_groups, call.label, call.family, is_client=credential.is_client
    )
    if refused is not None:
        raise refused
    if _ATTRIBUTION_HEADERS.isdisjoint(call.headers):
        return actor
    attributed = attribute(organisation, actor, list(_named(call)))
    if isinstance(attributed, Refusal):
        raise attributed
    return attributed


def _named(call: Call) -> Iterator[Named]:
    """The units that the call names as the one that it is for."""
    for kind_header, header, kind_default in _ATTRIBUTIONS:
        kind = call.header(kind_header.lower()) if kind_header else None
        name = call.header(header.lower())
        if kind or name:  # an empty header is like none
            yield Named(kind_header or header, header, kind or kind_default, name or None)


async def verify_till(
    context: Context, organisation: Organisation, actor: Actor, authorization: str, *, final: bool = False
) -> tuple[str, int] | None:
    """The login and epoch of the till whose credential a payload carries, None when it is wrong."""
    return await context.callers.verify_till(organisation, authorization, actor.login, read_clock(), final=final)
