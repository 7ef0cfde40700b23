"""What was approved here beside what was redeemed there: each difference is found, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from counterfoil.domain.reconciliation import Approved, Kind, Redeemed, reconcile

SINCE = datetime(2026, 11, 1, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=1)
NOON = SINCE + timedelta(hours=12)
HERE = Approved("r1", "ref-1", "AbC123", 1000, {"mobile": "91900", "email": ""}, NOON, settled=True)
THERE = Redeemed("ref-1", "AbC123", 1000, {"mobile": "91900"}, NOON, "line 2")


def kinds(ours: list[Approved], theirs: list[Redeemed]) -> list[Kind]:
    return [each.kind for each in reconcile(ours, theirs, since=SINCE, until=UNTIL).findings]


def test_what_agrees_is_not_reported() -> None:
    found = reconcile([HERE], [THERE], since=SINCE, until=UNTIL)
    assert (found.pairs, found.unlike, list(found.findings)) == (1, 0, [])


def test_each_difference_has_its_kind() -> None:
    assert kinds([], [THERE]) == [Kind.ONLY_THERE]
    assert kinds([HERE], []) == [Kind.ONLY_HERE]
    assert kinds([HERE], [replace(THERE, points=999)]) == [Kind.AMOUNT_DIFFERS]
    assert kinds([HERE], [replace(THERE, member={"mobile": "91901"})]) == [Kind.MEMBER_DIFFERS]
    assert kinds([replace(HERE, settled=False)], [THERE]) == [Kind.OPEN_HERE]
    assert kinds([HERE], [THERE, replace(THERE, place="line 3")]) == [Kind.TWICE_THERE]


def test_an_open_request_without_a_redemption_is_no_difference() -> None:
    assert kinds([replace(HERE, settled=False, redemption_id=None)], []) == []


def test_a_redemption_without_an_id_is_found_by_its_reference() -> None:
    assert kinds([HERE], [replace(THERE, redemption_id="")]) == []
    assert kinds([replace(HERE, redemption_id=None)], [replace(THERE, redemption_id="Other1")]) == []


def test_partners_on_both_sides_of_the_edge_find_each_other() -> None:
    late = replace(THERE, at=UNTIL + timedelta(seconds=1))
    early = replace(HERE, at=UNTIL - timedelta(seconds=1))
    assert kinds([early], [late]) == []
    assert kinds([], [late]) == []  # the next day reports it
    assert kinds([early], [replace(late, points=1)]) == [Kind.AMOUNT_DIFFERS]


def test_members_without_a_common_kind_of_identifier_are_counted_not_accused() -> None:
    found = reconcile([HERE], [replace(THERE, member={"email": "a@b"})], since=SINCE, until=UNTIL)
    assert (found.unlike, list(found.findings)) == (1, [])


@given(
    both=st.sets(st.integers(0, 30)),
    here=st.sets(st.integers(31, 60)),
    there=st.sets(st.integers(61, 90)),
    wrong=st.sets(st.integers(0, 30)),
)
def test_exactly_what_differs_is_found(both: set[int], here: set[int], there: set[int], wrong: set[int]) -> None:
    ours = [replace(HERE, request_id=str(n), reference=f"ref-{n}", redemption_id=f"id{n}") for n in both | here]
    theirs = [
        replace(THERE, reference=f"ref-{n}", redemption_id=f"id{n}", points=1 if n in wrong else 1000)
        for n in both | there
    ]
    found = reconcile(ours, theirs, since=SINCE, until=UNTIL)
    assert found.pairs == len(both)
    of_kind = {kind: [each for each in found.findings if each.kind is kind] for kind in Kind}
    assert {int(each.here.request_id) for each in of_kind[Kind.ONLY_HERE] if each.here} == here
    assert {each.there.reference for each in of_kind[Kind.ONLY_THERE] if each.there} == {f"ref-{n}" for n in there}
    assert {int(each.here.request_id) for each in of_kind[Kind.AMOUNT_DIFFERS] if each.here} == both & wrong
