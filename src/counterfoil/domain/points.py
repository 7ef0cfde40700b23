"""The points of one member: lots, holds and the postings that move them.

Points are thousandths of a point. An account changes only by postings from a source to a destination,
so that it can always be recomputed from them. Lots are spent earliest expiry first (no expiry last),
then earliest award, then lot id.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

FOREVER = datetime.max.replace(tzinfo=UTC)


class Account(StrEnum):
    """The places between which points move; `available` and `held` are the member's."""

    ISSUED = "issued"
    AVAILABLE = "available"
    HELD = "held"
    REDEEMED = "redeemed"
    EXPIRED = "expired"


class Lot(Struct, frozen=True):
    """Points of one award with one expiry. `remaining` includes `held`."""

    lot_id: UUID
    awarded_at: datetime
    remaining: int
    held: int = 0
    expires_at: datetime | None = None
    grace_until: datetime | None = None

    @property
    def ends_at(self) -> datetime:
        """When the part that is not held stops being spendable (exclusive)."""
        return self.grace_until or self.expires_at or FOREVER

    @property
    def order(self) -> tuple[datetime, datetime, UUID]:
        """Sort key of spending."""
        return (self.expires_at or FOREVER, self.awarded_at, self.lot_id)


class Allocation(Struct, frozen=True):
    """A part of a lot."""

    lot_id: UUID
    points: int


class Hold(Struct, frozen=True):
    """Points set aside for a request, pinned to lots. `state`: open, captured, released or expired."""

    request_id: UUID
    points: int
    expires_at: datetime
    allocations: Sequence[Allocation]
    state: str = "open"


class MemberAccount(Struct, frozen=True):
    """One member with every lot that still has points. Points in thousandths."""

    member_id: int
    available: int
    held: int
    version: int
    lots: tuple[Lot, ...]
    overdue_holds: tuple[Hold, ...] = ()
    mobile: str = ""
    email: str = ""
    external_id: str = ""


class Posting(Struct, frozen=True):
    """Moves points of one lot from a source to a destination; always positive."""

    source: Account
    destination: Account
    lot_id: UUID
    points: int


class Journal(Struct, frozen=True):
    """One atomic set of postings of one member."""

    kind: str
    member_id: int
    request_id: UUID | None
    postings: Sequence[Posting]


class Change(Struct, frozen=True):
    """What one rule did to an account: its new form, the journals, and the hold placed or closed."""

    account: MemberAccount
    journals: tuple[Journal, ...] = ()
    holds: tuple[Hold, ...] = ()


def spendable(account: MemberAccount, now: datetime) -> int:
    """The points that could be redeemed or held now: what has expired does not count, swept or not."""
    return sum(lot.remaining - lot.held for lot in account.lots if now < lot.ends_at)


def plan(account: MemberAccount, points: int, now: datetime) -> tuple[Allocation, ...] | None:
    """Choose the lots that `points` would come from, or None when there are too few."""
    chosen: list[Allocation] = []
    missing = points
    for lot in sorted(account.lots, key=lambda each: each.order):
        free = lot.remaining - lot.held
        if free <= 0 or now >= lot.ends_at:
            continue
        part = min(free, missing)
        chosen.append(Allocation(lot.lot_id, part))
        missing -= part
        if missing == 0:
            return tuple(chosen)
    return None


def earliest_end(account: MemberAccount, allocations: Sequence[Allocation]) -> datetime:
    """When the first of these parts of lots would stop being spendable; FOREVER where none does."""
    chosen = {allocation.lot_id for allocation in allocations}
    return min((lot.ends_at for lot in account.lots if lot.lot_id in chosen), default=FOREVER)


def _move(
    account: MemberAccount, allocations: Sequence[Allocation], source: Account, destination: Account
) -> tuple[MemberAccount, tuple[Posting, ...]]:
    """Apply postings of the allocations to the account's lots and totals."""
    parts = {allocation.lot_id: allocation.points for allocation in allocations}
    total = sum(parts.values())
    held_change = (destination is Account.HELD) - (source is Account.HELD)
    leaves = destination in (Account.REDEEMED, Account.EXPIRED)
    lots = tuple(
        replace(
            lot,
            remaining=lot.remaining - parts[lot.lot_id] * leaves,
            held=lot.held + parts[lot.lot_id] * held_change,
        )
        if lot.lot_id in parts
        else lot
        for lot in account.lots
    )
    available_change = (destination is Account.AVAILABLE) - (source is Account.AVAILABLE)
    changed = replace(
        account,
        lots=lots,
        available=account.available + total * available_change,
        held=account.held + total * held_change,
    )
    return changed, tuple(
        Posting(source, destination, allocation.lot_id, allocation.points) for allocation in allocations
    )


def place_hold(
    account: MemberAccount, request_id: UUID, points: int, *, now: datetime, days: int, until: datetime | None = None
) -> Change | None:
    """Set points aside for a request, never longer than the request lives; None when there are too few."""
    allocations = plan(account, points, now)
    if allocations is None:
        return None
    changed, postings = _move(account, allocations, Account.AVAILABLE, Account.HELD)
    hold = Hold(request_id, points, min(now + timedelta(days=days), until or FOREVER), allocations)
    return Change(changed, (Journal("place", account.member_id, request_id, postings),), (hold,))


def capture_hold(account: MemberAccount, hold: Hold) -> Change:
    """Turn the held points into redeemed ones."""
    changed, postings = _move(account, hold.allocations, Account.HELD, Account.REDEEMED)
    journal = Journal("capture", account.member_id, hold.request_id, postings)
    return Change(changed, (journal,), (replace(hold, state="captured"),))


def release_hold(
    account: MemberAccount, hold: Hold, *, now: datetime, grace_hours: int, state: str = "released"
) -> Change:
    """Give held points back. A lot that expired meanwhile stays spendable for the grace, then expires."""
    changed, postings = _move(account, hold.allocations, Account.HELD, Account.AVAILABLE)
    pinned = {allocation.lot_id for allocation in hold.allocations}
    grace_until = now + timedelta(hours=grace_hours)
    changed = replace(
        changed,
        lots=tuple(
            replace(lot, grace_until=grace_until) if lot.lot_id in pinned and lot.ends_at <= now else lot
            for lot in changed.lots
        ),
    )
    journal = Journal("release", account.member_id, hold.request_id, postings)
    return Change(changed, (journal,), (replace(hold, state=state),))


def redeem(account: MemberAccount, points: int, *, request_id: UUID | None, now: datetime) -> Change | None:
    """Spend available points, or None when there are too few."""
    allocations = plan(account, points, now)
    if allocations is None:
        return None
    changed, postings = _move(account, allocations, Account.AVAILABLE, Account.REDEEMED)
    return Change(changed, (Journal("redeem", account.member_id, request_id, postings),))


def award(
    account: MemberAccount, points: int, *, request_id: UUID, now: datetime, expires_at: datetime | None
) -> Change:
    """Give new points, as a lot that has the id of the request."""
    changed = replace(
        account,
        lots=(*account.lots, Lot(request_id, now, points, expires_at=expires_at)),
        available=account.available + points,
    )
    posting = Posting(Account.ISSUED, Account.AVAILABLE, request_id, points)
    return Change(changed, (Journal("award", account.member_id, request_id, (posting,)),))


def _expire(account: MemberAccount, until: datetime) -> Change:
    """Take away what was free in the lots that have ended by then."""
    gone = tuple(
        Allocation(lot.lot_id, lot.remaining - lot.held)
        for lot in account.lots
        if lot.remaining > lot.held and lot.ends_at <= until
    )
    if not gone:
        return Change(account)
    changed, postings = _move(account, gone, Account.AVAILABLE, Account.EXPIRED)
    return Change(changed, (Journal("expire", account.member_id, None, postings),))


def settle_due(account: MemberAccount, *, now: datetime, grace_hours: int) -> Change:
    """Carry out what time has already decided: overdue holds are released, expired lots expire.

    A pinned part does not expire while it is held. Each thing happens as of its own time, in that order,
    so that the outcome does not depend on when somebody looks.
    """
    journals: list[Journal] = []
    holds: list[Hold] = []
    for hold in sorted(account.overdue_holds, key=lambda each: (each.expires_at, each.request_id)):
        expired = _expire(account, hold.expires_at)
        released = release_hold(expired.account, hold, now=hold.expires_at, grace_hours=grace_hours, state="expired")
        account = released.account
        journals.extend((*expired.journals, *released.journals))
        holds.extend(released.holds)
    last = _expire(account, now)
    return Change(replace(last.account, overdue_holds=()), (*journals, *last.journals), tuple(holds))
