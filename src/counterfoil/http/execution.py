"""Waiting for an external host: the decide call answers with the end, if that comes in time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

from counterfoil.application import reads
from counterfoil.domain.refusals import Busy
from counterfoil.domain.requests import FINAL, Request, State
from counterfoil.http.routing import Context

_FIRST_SECONDS: Final = 0.05
_SECONDS_MAX: Final = 1.0


async def executed(context: Context, org_id: int, request: Request) -> Request:
    """The request after its execution, or as it stands when that comes too late; meanwhile no connection is held."""
    if request.state is not State.APPROVED:
        return request
    # By the database's clock, as due_at is.
    until = request.decided_at and request.decided_at + timedelta(seconds=context.decide_seconds_max)
    with suppress(TimeoutError):
        async with asyncio.timeout(context.decide_seconds_max):
            if context.executions is not None and request.lease_owner == context.executions.owner:
                await context.executions.carry_out(org_id, request)
            wait = _FIRST_SECONDS
            while True:
                found = await _find(context, org_id, request.request_id)
                if found is not None:
                    request = found
                if request.state in FINAL or request.due_at is None:  # an end, or an incident that people settle
                    break
                if request.lease_until is None and until and request.due_at > until:  # nothing happens before
                    break
                await asyncio.sleep(wait)
                wait = min(wait * 1.5, _SECONDS_MAX)
    return request


async def _find(context: Context, org_id: int, request_id: UUID) -> Request | None:
    """The request now; None while the database is away: the decision stands, so the call is not refused."""
    try:
        stored = await reads.find_request(context.pool, org_id, request_id)
    except Busy:
        return None
    return None if stored is None else stored.request
