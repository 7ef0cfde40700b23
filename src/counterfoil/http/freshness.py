"""Runs a handler again when the organisation changed under it, from authentication on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from counterfoil.application import reads
from counterfoil.application.requests import Stale
from counterfoil.domain.access import Actor
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import Busy, Refusal
from counterfoil.http.authentication import admit, authenticate
from counterfoil.http.routing import Answer, Call, Context

_TRIES = 5


async def answer_fresh(
    context: Context,
    call: Call,
    attempt: Callable[[Organisation, Actor], Awaitable[Answer | Stale]],
    *,
    organisation_header: Literal["required", "optional"] | None = None,
) -> Answer:
    """Authenticate, admit and attempt; a stale snapshot is dropped, then both are done again.

    So a revoked grant or a changed password counts at once, on every node.
    """
    for _ in range(_TRIES):
        organisation, actor = await authenticate(context, call, organisation_header=organisation_header)
        try:
            answer = await attempt(organisation, admit(call, organisation, actor))
        except Refusal:
            # What is missing may have been added since the snapshot was taken: a host, a unit, a grant.
            version = await reads.organisation_version(context.pool, organisation.org_id)
            if version in (None, organisation.version):
                raise
            answer = Stale(version)
        if isinstance(answer, Answer):
            return answer
        context.organisations.forget(organisation.org_id, answer.organisation_version)
    raise Busy("the organisation is being changed: send the same call again", retry_after_seconds=1)
