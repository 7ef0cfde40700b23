"""From the headers of a call to its organisation and actor."""

from __future__ import annotations

import time
from typing import Literal

from counterfoil.application.callers import Clock, Presented
from counterfoil.domain.access import Actor
from counterfoil.domain.organisations import Organisation
from counterfoil.http.routing import Call, Context


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
        organisation=headers.get(b"x-cap-api-auth-org-id", b"").strip() or None,
        token=headers.get(b"x-cap-ui-auth-token", b"").strip() if user_token else b"",
        source=call.client_address,
        organisation_required=organisation_header == "required",
    )
    return await context.callers.identify(shown, read_clock())


async def verify_till(
    context: Context, organisation: Organisation, actor: Actor, authorization: str, *, final: bool = False
) -> tuple[str, int] | None:
    """The login and epoch of the till whose credential a payload carries, None when it is wrong."""
    return await context.callers.verify_till(organisation, authorization, actor.login, read_clock(), final=final)
