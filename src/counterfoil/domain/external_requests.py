"""A request that is agreed and is to be executed by calling an external host."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec.structs import replace

from counterfoil.domain.organisations import Host
from counterfoil.domain.points import MemberAccount
from counterfoil.domain.refusals import ChangedSinceShown
from counterfoil.domain.requests import Decide, Decided, Request, State


def approve(
    host: Host, request: Request, command: Decide, account: MemberAccount | None, now: datetime
) -> Decided | ChangedSinceShown:
    """Approved, to be executed by the deciding process at once where it claims that, else by any executor."""
    if host.revision != request.host_revision:
        return ChangedSinceShown("the host entry was changed after submission: reject the request and submit it again")
    leased = command.lease_owner is not None
    until = now + timedelta(seconds=command.lease_seconds) if leased else None
    approved = replace(
        request,
        version=request.version + 1,
        state=State.APPROVED,
        decided_at=now,
        due_at=until or now,
        lease_owner=command.lease_owner,
        lease_until=until,
        fence=request.fence + leased,
    )
    return Decided(approved, None, account)
