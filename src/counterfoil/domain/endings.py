"""How a request ends without a checker's verdict: its maker takes it back, or its time is over."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain import points
from counterfoil.domain.access import Actor
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.points import Hold, Journal, MemberAccount
from counterfoil.domain.refusals import AlreadyCompleted, NotPermitted, Refusal, RequestNotFound
from counterfoil.domain.requests import Request, State, as_of, is_overdue


class Withdraw(Struct, frozen=True):
    """A call to take a request back. `withdrawal_id` is made once."""

    withdrawal_id: UUID
    actor: Actor
    request_id: UUID
    message: str
    salt: bytes


class Ended(Struct, frozen=True):
    """A request that ended, and what its end moved: points that were held go back."""

    request: Request
    account: MemberAccount | None
    journals: tuple[Journal, ...] = ()
    holds: tuple[Hold, ...] = ()


def already(request: Request, now: datetime) -> AlreadyCompleted | None:
    """The refusal of whoever comes too late: it tells who ended the request, how and when."""
    found = as_of(request, now)
    if found.state is State.PENDING:
        return None
    at = found.ended_at or found.decided_at
    when = f" at {at:%Y-%m-%dT%H:%M:%SZ}" if at else ""
    match found.state:
        case State.WITHDRAWN:
            told = f"{found.maker_user_name} withdrew it{when}"
        case State.EXPIRED:
            told = f"it expired{when}, because nobody had decided it by then"
        case _ if found.decisions:
            last = found.decisions[-1]
            did = "sent it back" if last.sent_back else f"{last.verdict} it"
            told = f"{last.user_name} {did} at {last.decided_at:%Y-%m-%dT%H:%M:%SZ}"
        case _:
            told = f"it is {found.state}{when}"
    return AlreadyCompleted(f"the request is already completed: {told}", "requestId")


def withdraw(
    organisation: Organisation,
    request: Request | None,
    command: Withdraw,
    account: MemberAccount | None,
    hold: Hold | None,
    now: datetime,
) -> Ended | Refusal:
    """The maker takes a pending request back, with whatever login of theirs; freezes do not hinder it."""
    if request is None:
        return RequestNotFound("no request of this organisation has that requestId", "requestId")
    if command.actor.person_id is None or command.actor.person_id != request.maker_person_id:
        return NotPermitted("only the maker of a request can withdraw it; a checker can reject it or send it back")
    ended = already(request, now)
    if ended is not None:
        return ended
    changed = replace(request, state=State.WITHDRAWN, ended_at=now, version=request.version + 1)
    return _give_back(organisation, changed, account, hold, now)


def expire(
    organisation: Organisation, request: Request, account: MemberAccount | None, hold: Hold | None, now: datetime
) -> Ended | None:
    """Write down that nobody decided in time, as of the time when it was over; None where somebody did."""
    if not is_overdue(request.state, request.expires_at, now):
        return None
    changed = replace(request, state=State.EXPIRED, ended_at=request.expires_at, version=request.version + 1)
    return _give_back(organisation, changed, account, hold, now)


def _give_back(
    organisation: Organisation, request: Request, account: MemberAccount | None, hold: Hold | None, now: datetime
) -> Ended:
    if hold is None or hold.state != "open" or account is None:
        return Ended(request, account)
    change = points.release_hold(account, hold, now=now, grace_hours=organisation.programme.release_grace_hours)
    return Ended(request, change.account, change.journals, change.holds)
