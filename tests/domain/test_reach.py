"""Nothing that a person may decide lies outside their reach; how it is looked for; what ends first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.domain import access
from counterfoil.domain.access import Actor, OrgUnit, Right, UnitKind, units_above
from counterfoil.domain.inbox import WALKED_MAX, plan_look
from counterfoil.domain.organisations import Organisation, Person
from counterfoil.domain.points import FOREVER, Allocation, Lot, MemberAccount, earliest_end
from counterfoil.domain.reach import UNLIMITED, Reach, may_read, reach, readable_units
from counterfoil.domain.refusals import OverLimit
from tests.builders import CHECKER, MAKER, STORE, TILL, ZONE, actor_of, grant, organisation

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
UNITS = {
    **{zone: OrgUnit(zone, UnitKind.ZONE, "z", zone_parent_id=1 if zone > 1 else None) for zone in (1, 2, 3)},
    **{concept: OrgUnit(concept, UnitKind.CONCEPT, "c") for concept in (4, 5)},
    **{store: OrgUnit(store, UnitKind.STORE, "s", None, 2 + store % 2, 4 + store % 2) for store in (10, 11, 12)},
    **{till: OrgUnit(till, UnitKind.TILL, "t", store_id=10 + till % 3) for till in range(20, 26)},
}
dates = st.sampled_from((None, None, NOW, NOW - timedelta(hours=3), NOW + timedelta(hours=3)))
grants = st.builds(
    grant,
    person_id=st.sampled_from((CHECKER, MAKER)),
    right=st.sampled_from((Right.CHECK, Right.CHECK, Right.MAKE)),
    unit_id=st.sampled_from((None, *UNITS)),
    request_type=st.sampled_from((None, "POINTS-REDEMPTION", "GOODWILL-POINTS")),
    points_max=st.sampled_from((None, 10, 100)),
    valid_from=dates,
    valid_until=dates,
)


def test_below_is_the_other_side_of_above() -> None:
    found = organisation(units=UNITS)
    for unit_id in UNITS:
        assert found.below(unit_id) == {each for each in UNITS if unit_id in units_above(UNITS, each)}


@given(st.lists(grants, max_size=6))
def test_nothing_that_may_be_decided_is_out_of_reach(given_grants: list[access.Grant]) -> None:
    found = organisation(units=UNITS, grants=given_grants)
    reached = reach(found, CHECKER, NOW)
    actor = actor_of(found, CHECKER)
    for unit_id, kind, points in product(UNITS, ("POINTS-REDEMPTION", "GOODWILL-POINTS"), (10, 11, 100, 101)):
        case = {"unit_id": unit_id, "request_type": kind, "points": points, "now": NOW}
        refused = access.may_decide(found, actor, MAKER, **case)  # type: ignore[arg-type]
        inside = points <= max(reached.everywhere, reached.units.get(unit_id, -1)) and (
            reached.types is None or kind in reached.types
        )
        assert refused is not None or inside


@given(st.lists(grants, max_size=6))
def test_readable_is_where_any_right_is_held(given_grants: list[access.Grant]) -> None:
    found = organisation(units=UNITS, grants=given_grants, read_scope="units")
    actor = actor_of(found, CHECKER)
    for unit_id in UNITS:
        held = any(
            each.person_id == CHECKER
            and (each.unit_id is None or each.unit_id in found.above(unit_id))
            and (each.valid_from is None or each.valid_from <= NOW)
            and (each.valid_until is None or each.valid_until > NOW)
            for each in given_grants
        )
        assert may_read(found, actor, unit_id, NOW) is held


def without_person(found: Organisation) -> Actor:
    return Actor(found.org_id, 1, "ind.1", frozenset(), None, 9, "ind.1", has_user=False)


def test_whoever_is_nobody_reads_nothing_under_units() -> None:
    found = organisation(read_scope="units")
    assert readable_units(found, without_person(found), NOW) == frozenset()
    assert readable_units(organisation(), without_person(found), NOW) is None
    people = {each: Person(each, each, active=False) for each in found.people}
    gone = organisation(read_scope="units", people=people)
    assert readable_units(gone, actor_of(gone, CHECKER), NOW) == frozenset()
    assert reach(gone, CHECKER, NOW) == Reach(types=frozenset())


def test_a_limit_is_told_as_such() -> None:
    found = organisation(grants=(grant(CHECKER, Right.CHECK, points_max=99_999),))
    actor = actor_of(found, CHECKER)
    case = {"unit_id": TILL, "request_type": "POINTS-REDEMPTION", "now": NOW}
    assert isinstance(access.may_decide(found, actor, MAKER, points=100_000, **case), OverLimit)  # type: ignore[arg-type]
    assert access.may_decide(found, actor, MAKER, points=99_999, **case) is None  # type: ignore[arg-type]
    assert reach(found, CHECKER, NOW).units[STORE] == reach(found, CHECKER, NOW).units[ZONE] == 99_999


@pytest.mark.parametrize(
    ("units", "in_all", "by_unit"),
    [(0, 4, True), (3, 4, True), (20, 100_000, True), (250, 600, False), (100, 100_000, True), (5000, 100_000, False)],
)
def test_how_it_is_looked_for(units: int, in_all: int, by_unit: bool) -> None:  # noqa: FBT001 - a case
    found = plan_look(Reach(units=dict.fromkeys(range(units), UNLIMITED)), in_all, 26, 0)
    assert found.by_unit is by_unit
    # What one look reads: bounded, and little beside a page wherever the reader's share is not tiny.
    assert (max(units, 1) * found.depth if by_unit else found.depth) <= WALKED_MAX
    assert plan_look(Reach(everywhere=5), in_all, 26, 3).by_unit is False
    assert plan_look(Reach(units=dict.fromkeys(range(units), 1)), in_all, 26, 2).by_unit is True


def test_what_ends_first() -> None:
    lots = tuple(
        Lot(UUID(int=number), NOW, 10, 0, ends, grace)
        for number, (ends, grace) in enumerate(
            [(None, None), (NOW, None), (NOW - timedelta(days=1), NOW + timedelta(days=1))]
        )
    )
    account = MemberAccount(1, 30, 0, 1, lots)

    def ends(*numbers: int) -> datetime:
        return earliest_end(account, [Allocation(UUID(int=number), 5) for number in numbers])

    assert (ends(0), ends(0, 1), ends(2), ends(1, 2)) == (FOREVER, NOW, NOW + timedelta(days=1), NOW)
