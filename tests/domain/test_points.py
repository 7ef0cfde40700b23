"""Lots, holds and postings: nothing is made, nothing is lost, and time decides the same whoever looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from counterfoil.domain import points
from counterfoil.domain.points import (
    Account,
    Allocation,
    Change,
    Hold,
    Journal,
    Lot,
    MemberAccount,
    capture_hold,
    place_hold,
    plan,
    redeem,
    release_hold,
    settle_due,
    spendable,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GRACE = 24
REQUEST, OTHER_REQUEST = UUID(int=100), UUID(int=101)


def lot(
    number: int,
    remaining: int,
    *,
    held: int = 0,
    expires: timedelta | None = None,
    awarded: timedelta = -DAY,
    grace: timedelta | None = None,
) -> Lot:
    """A lot whose times are told from NOW."""
    return Lot(
        UUID(int=number),
        NOW + awarded,
        remaining,
        held,
        None if expires is None else NOW + expires,
        None if grace is None else NOW + grace,
    )


def account(*lots: Lot, overdue: Sequence[Hold] = ()) -> MemberAccount:
    held = sum(each.held for each in lots)
    return MemberAccount(7, sum(each.remaining for each in lots) - held, held, 1, lots, tuple(overdue))


def hold(parts: dict[int, int], *, expires: timedelta = 7 * DAY, request_id: UUID = REQUEST) -> Hold:
    allocations = [Allocation(UUID(int=number), part) for number, part in parts.items()]
    return Hold(request_id, sum(parts.values()), NOW + expires, allocations)


def parts(allocations: Iterable[Allocation] | None) -> dict[int, int] | None:
    return None if allocations is None else {each.lot_id.int: each.points for each in allocations}


def shape(changed: MemberAccount) -> dict[int, tuple[int, int]]:
    """Remaining and held of every lot."""
    return {each.lot_id.int: (each.remaining, each.held) for each in changed.lots}


def kinds(journals: Iterable[Journal]) -> list[tuple[str, dict[int, int]]]:
    return [
        (journal.kind, {posting.lot_id.int: posting.points for posting in journal.postings}) for journal in journals
    ]


# ---------------------------------------------------------------- the order of spending


@pytest.mark.parametrize(
    ("lots", "wanted", "chosen"),
    [
        ([lot(1, 100)], 100, {1: 100}),
        ([lot(1, 100)], 101, None),
        ([], 1, None),
        # earliest expiry first, no expiry last
        ([lot(1, 100), lot(2, 100, expires=2 * DAY), lot(3, 100, expires=DAY)], 250, {3: 100, 2: 100, 1: 50}),
        # then the earliest award
        ([lot(1, 100, awarded=-DAY), lot(2, 100, awarded=-2 * DAY)], 100, {2: 100}),
        ([lot(1, 9, expires=DAY, awarded=-DAY), lot(2, 9, expires=DAY, awarded=-2 * DAY)], 10, {2: 9, 1: 1}),
        # then the lot's id
        ([lot(2, 100), lot(1, 100)], 150, {1: 100, 2: 50}),
        # what is held is not free, what has expired is not there; expiry is exclusive
        ([lot(1, 100, held=40)], 61, None),
        ([lot(1, 100, held=40), lot(2, 5)], 65, {1: 60, 2: 5}),
        ([lot(1, 100, held=100, expires=DAY), lot(2, 5)], 5, {2: 5}),
        ([lot(1, 100, expires=timedelta(0)), lot(2, 5)], 5, {2: 5}),
        ([lot(1, 100, expires=timedelta(microseconds=1)), lot(2, 5)], 5, {1: 5}),
        # a grace prolongs a lot, and it is still the first to be spent
        ([lot(1, 100, expires=-DAY, grace=HOUR), lot(2, 5, expires=DAY)], 5, {1: 5}),
        ([lot(1, 100, expires=-DAY, grace=-HOUR), lot(2, 5)], 5, {2: 5}),
    ],
)
def test_points_are_spent_in_one_order(lots: list[Lot], wanted: int, chosen: dict[int, int] | None) -> None:
    planned = plan(account(*lots), wanted, NOW)
    assert parts(planned) == chosen
    assert planned is None or [each.lot_id.int for each in planned] == list(chosen or {})
    assert parts(plan(account(*reversed(lots)), wanted, NOW)) == chosen


# ---------------------------------------------------------------- hold, capture, release


def test_a_hold_pins_lots_and_is_captured_from_them() -> None:
    before = account(lot(1, 60, expires=DAY), lot(2, 100))
    placed = place_hold(before, REQUEST, 100, now=NOW, days=7)
    assert placed is not None
    assert (placed.account.available, placed.account.held) == (60, 100)
    assert shape(placed.account) == {1: (60, 60), 2: (100, 40)}
    assert kinds(placed.journals) == [("place", {1: 60, 2: 40})]
    (held,) = placed.holds
    assert (held.points, held.expires_at, held.state) == (100, NOW + 7 * DAY, "open")

    captured = capture_hold(placed.account, held)
    assert (captured.account.available, captured.account.held) == (60, 0)
    assert shape(captured.account) == {1: (0, 0), 2: (60, 0)}
    assert [each.state for each in captured.holds] == ["captured"]
    assert {(each.source, each.destination) for each in captured.journals[0].postings} == {
        (Account.HELD, Account.REDEEMED)
    }


def test_too_few_points_change_nothing() -> None:
    before = account(lot(1, 60, expires=DAY), lot(2, 40, held=1))
    assert place_hold(before, REQUEST, 100, now=NOW, days=7) is None
    assert redeem(before, 100, request_id=None, now=NOW) is None


def test_what_is_released_before_the_lot_ends_gets_no_grace() -> None:
    before = account(lot(1, 100, held=40, expires=DAY))
    change = release_hold(before, hold({1: 40}), now=NOW, grace_hours=GRACE)
    assert shape(change.account) == {1: (100, 0)}
    assert change.account.lots[0].grace_until is None
    assert [each.state for each in change.holds] == ["released"]


def test_what_is_released_after_the_lot_ended_stays_spendable_for_the_grace() -> None:
    before = account(lot(1, 40, held=40, expires=-DAY))
    released = release_hold(before, hold({1: 40}), now=NOW, grace_hours=GRACE).account
    assert released.lots[0].grace_until == NOW + DAY
    assert spendable(released, NOW + DAY - HOUR) == 40
    assert spendable(released, NOW + DAY) == 0
    gone = settle_due(released, now=NOW + DAY, grace_hours=GRACE)
    assert kinds(gone.journals) == [("expire", {1: 40})]
    assert (gone.account.available, gone.account.held) == (0, 0)


def test_a_direct_redemption_spends_what_is_not_held() -> None:
    change = redeem(account(lot(1, 100, held=40), lot(2, 5)), 65, request_id=None, now=NOW)
    assert change is not None
    assert (change.account.available, change.account.held) == (0, 40)
    assert shape(change.account) == {1: (40, 40), 2: (0, 0)}
    assert not change.holds


# ---------------------------------------------------------------- what time decides


@pytest.mark.parametrize("grace_hours", [0, GRACE])
def test_a_pinned_part_does_not_expire_while_it_is_held(grace_hours: int) -> None:
    change = settle_due(account(lot(1, 100, held=40, expires=-HOUR)), now=NOW, grace_hours=grace_hours)
    assert shape(change.account) == {1: (40, 40)}
    assert kinds(change.journals) == [("expire", {1: 60})]


def test_nothing_is_due_on_a_quiet_account() -> None:
    before = account(lot(1, 100, held=40, expires=HOUR), lot(2, 5), lot(3, 7, expires=-DAY, grace=HOUR))
    change = settle_due(before, now=NOW, grace_hours=GRACE)
    assert (change.account, change.journals, change.holds) == (before, (), ())


def test_an_overdue_hold_goes_back_as_expired() -> None:
    overdue = hold({1: 40}, expires=-HOUR)
    change = settle_due(account(lot(1, 100, held=40), overdue=[overdue]), now=NOW, grace_hours=GRACE)
    assert (change.account.available, change.account.held, change.account.overdue_holds) == (100, 0, ())
    assert [each.state for each in change.holds] == ["expired"]
    assert kinds(change.journals) == [("release", {1: 40})]


def test_the_free_part_of_an_expired_lot_does_not_come_back_with_the_pinned_one() -> None:
    overdue = hold({1: 40}, expires=-HOUR)
    late = account(lot(1, 100, held=40, expires=-DAY), overdue=[overdue])
    change = settle_due(late, now=NOW, grace_hours=GRACE)
    assert shape(change.account) == {1: (40, 0)}
    assert kinds(change.journals) == [("expire", {1: 60}), ("release", {1: 40})]
    assert change.account.lots[0].grace_until == NOW - HOUR + DAY


def test_points_that_were_free_again_before_their_lot_ended_get_no_grace() -> None:
    overdue = hold({1: 40}, expires=-DAY)
    late = account(lot(1, 100, held=40, expires=-HOUR), overdue=[overdue])
    change = settle_due(late, now=NOW, grace_hours=GRACE)
    assert shape(change.account) == {1: (0, 0)}


OFFSET = st.sampled_from([timedelta(hours=hours) for hours in (-80, -50, -26, -25, -24, -3, -1, 0, 1, 50)])


@st.composite
def accounts(draw: st.DrawFn) -> MemberAccount:
    """Some lots, some of them pinned by holds that are overdue."""
    lots = [
        Lot(
            UUID(int=number),
            NOW - draw(st.integers(80, 90)) * HOUR,
            draw(st.integers(1, 1000)),
            0,
            draw(st.none() | OFFSET.map(lambda offset: NOW + offset)),
        )
        for number in range(draw(st.integers(0, 4)))
    ]
    holds = []
    for number in range(draw(st.integers(0, 3))):
        taken: dict[int, int] = {}
        for index, each in enumerate(lots):
            part = draw(st.integers(0, each.remaining - each.held))
            if part:
                taken[index] = part
                lots[index] = replace(each, held=each.held + part)
        if taken:
            holds.append(hold(taken, expires=draw(OFFSET), request_id=UUID(int=100 + number)))
    overdue = [each for each in holds if each.expires_at <= NOW]
    return account(*lots, overdue=overdue)


def at(before: MemberAccount, now: datetime) -> MemberAccount:
    """The account as a reader at `now` gets it: only the holds that are overdue by then."""
    return replace(before, overdue_holds=tuple(h for h in before.overdue_holds if h.expires_at <= now))


@given(accounts(), st.lists(st.integers(-90, 0), max_size=4))
def test_it_does_not_matter_how_often_somebody_looked(before: MemberAccount, looks: list[int]) -> None:
    """Expiry is a fact of time, the sweep only tidies (traps B 9, 10)."""
    seldom = settle_due(before, now=NOW, grace_hours=GRACE).account
    often, left = before, before.overdue_holds
    for hours in [*sorted(looks), 0]:
        now = NOW + hours * HOUR
        often = settle_due(at(replace(often, overdue_holds=left), now), now=now, grace_hours=GRACE).account
        left = tuple(each for each in left if each.expires_at > now)
    assert often == seldom


@given(accounts())
def test_settling_twice_is_settling_once(before: MemberAccount) -> None:
    once = settle_due(before, now=NOW, grace_hours=GRACE).account
    assert settle_due(once, now=NOW, grace_hours=GRACE) == Change(once)
    assert spendable(once, NOW) == once.available


# ---------------------------------------------------------------- conservation


def after_postings(before: MemberAccount, journals: Iterable[Journal]) -> dict[UUID, tuple[int, int]]:
    """Remaining and held of each lot, from the postings alone."""
    lots = {each.lot_id: (each.remaining, each.held) for each in before.lots}
    for journal in journals:
        for posting in journal.postings:
            assert posting.points > 0
            remaining, held = lots[posting.lot_id]
            held += posting.points * ((posting.destination is Account.HELD) - (posting.source is Account.HELD))
            if posting.destination in (Account.REDEEMED, Account.EXPIRED):
                remaining -= posting.points
            lots[posting.lot_id] = (remaining, held)
    return lots


def check(before: MemberAccount, after: MemberAccount, journals: Iterable[Journal]) -> None:
    """The account is what its postings say, and its totals are those of its lots."""
    assert {each.lot_id: (each.remaining, each.held) for each in after.lots} == after_postings(before, journals)
    assert all(0 <= each.held <= each.remaining for each in after.lots)
    assert after.held == sum(each.held for each in after.lots)
    assert after.available == sum(each.remaining - each.held for each in after.lots)


@given(accounts(), st.integers(1, 3000))
def test_a_plan_is_the_shortest_prefix_of_the_order(before: MemberAccount, wanted: int) -> None:
    chosen = plan(before, wanted, NOW)
    if chosen is None:
        assert spendable(before, NOW) < wanted
        return
    assert sum(each.points for each in chosen) == wanted
    assert len({each.lot_id for each in chosen}) == len(chosen)
    lots = {each.lot_id: each for each in before.lots}
    used = [lots[each.lot_id] for each in chosen]
    assert used == sorted(used, key=lambda each: each.order)
    for index, part in enumerate(chosen):
        free = used[index].remaining - used[index].held
        assert 0 < part.points <= free
        assert part.points == free or index == len(chosen) - 1
    skipped = [each for each in before.lots if each not in used and each.order < used[-1].order and each.ends_at > NOW]
    assert all(each.remaining == each.held for each in skipped)


@given(accounts(), st.data())
def test_to_place_and_release_leaves_everything_as_it_was(before: MemberAccount, data: st.DataObject) -> None:
    before = settle_due(before, now=NOW, grace_hours=GRACE).account
    if not (free := spendable(before, NOW)):
        return
    wanted = data.draw(st.integers(1, free))
    placed = place_hold(before, REQUEST, wanted, now=NOW, days=7)
    assert placed is not None
    check(before, placed.account, placed.journals)
    assert placed.account.available == before.available - wanted
    released = release_hold(placed.account, placed.holds[0], now=NOW, grace_hours=GRACE)
    assert released.account == before


@given(accounts(), st.data())
def test_a_capture_takes_what_was_held_and_nothing_else(before: MemberAccount, data: st.DataObject) -> None:
    before = settle_due(before, now=NOW, grace_hours=GRACE).account
    if not (free := spendable(before, NOW)):
        return
    wanted = data.draw(st.integers(1, free))
    placed = place_hold(before, REQUEST, wanted, now=NOW, days=7)
    assert placed is not None
    captured = capture_hold(placed.account, placed.holds[0])
    check(placed.account, captured.account, captured.journals)
    at_once = redeem(before, wanted, request_id=REQUEST, now=NOW)
    assert at_once is not None
    assert captured.account == at_once.account
    assert captured.account.available + wanted == before.available


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["place", "capture", "release", "redeem", "later"]),
        st.integers(1, 600),
        st.integers(0, 5),
    ),
    max_size=15,
)


@given(accounts(), STEPS)
def test_points_are_conserved_through_any_history(first: MemberAccount, steps: list[tuple[str, int, int]]) -> None:
    now = NOW
    journals: list[Journal] = []
    change = settle_due(first, now=now, grace_hours=GRACE)
    current, holds = change.account, dict[UUID, Hold]()
    journals.extend(change.journals)
    issued = sum(each.remaining for each in first.lots)
    for number, (step, size, which) in enumerate(steps):
        chosen = sorted(holds)[which % len(holds)] if holds else None
        moved: Change | None = None
        match step:
            case "later":
                now += size * HOUR
                overdue = tuple(each for each in holds.values() if each.expires_at <= now)
                moved = settle_due(replace(current, overdue_holds=overdue), now=now, grace_hours=GRACE)
            case "place":
                moved = place_hold(current, UUID(int=number), size, now=now, days=7)
                assert (moved is None) == (points.spendable(current, now) < size)
            case "redeem":
                moved = redeem(current, size, request_id=None, now=now)
            case "capture" if chosen is not None:
                moved = capture_hold(current, holds[chosen])
            case "release" if chosen is not None:
                moved = release_hold(current, holds[chosen], now=now, grace_hours=GRACE)
        if moved is None:
            continue
        current = moved.account
        journals.extend(moved.journals)
        for each in moved.holds:
            holds[each.request_id] = each
        holds = {key: each for key, each in holds.items() if each.state == "open"}
        check(first, current, journals)
    gone = sum(
        posting.points
        for journal in journals
        for posting in journal.postings
        if posting.destination in (Account.REDEEMED, Account.EXPIRED)
    )
    assert issued == current.available + current.held + gone
