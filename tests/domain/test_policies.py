"""What a policy asks, who can meet it, and when voices have met it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from counterfoil.domain import eligibility, rulings
from counterfoil.domain.access import OrgUnit, Place, Right, UnitKind
from counterfoil.domain.conditions import Condition, Facts, compiled, minute_of_week
from counterfoil.domain.eligibility import Case, Voice
from counterfoil.domain.matching import assign
from counterfoil.domain.organisations import Group, Organisation, Person, User
from counterfoil.domain.policies import AutoApproval, Cap, CapSubject, Level, Need, Policy, Rule
from counterfoil.domain.refusals import BadGoodwillPoints, CapReached, NobodyCanCheck, SelfInterest
from counterfoil.domain.rulings import Ruling, Tally
from tests.builders import CONCEPT, STORE, TILL, ZONE, actor_of, grant, organisation

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)  # a Monday, 15:30 in Asia/Kolkata
DAY = date(2026, 11, 23)
KIND = "POINTS-REDEMPTION"
PLACE = Place(TILL, TILL, STORE, ZONE, CONCEPT)
PEOPLE = [f"P{number}" for number in range(5)]
MAKER = "M"
CASE = Case(TILL, KIND, 100_000, frozenset({MAKER}), NOW)


def house(*grants: Any, groups: Mapping[str, Sequence[str]] | None = None, **changes: Any) -> Organisation:
    people = [MAKER, *PEOPLE]
    return organisation(
        people={each: Person(each, each) for each in people} | changes.pop("people", {}),
        users={number: User(number, each, each) for number, each in enumerate(people, 1)},
        grants=(grant(MAKER, Right.MAKE), *grants),
        groups={key: Group(key, key, tuple(value)) for key, value in (groups or {}).items()},
        **changes,
    )


def checks(person: str, unit: int | None = ZONE, **changes: Any) -> Any:
    return grant(person, Right.CHECK, unit, **changes)


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Condition(), True),
        (Condition(types=(KIND,)), True),
        (Condition(types=("EARN-BADGE",)), False),
        (Condition(units=(ZONE,)), True),
        (Condition(units=(1, STORE)), True),
        (Condition(units=(1,)), False),
        (Condition(above=99_999), True),
        (Condition(above=100_000), False),
        (Condition(up_to=100_000), True),
        (Condition(up_to=99_999), False),
        (Condition(maker_groups=("a", "b")), True),
        (Condition(maker_groups=("b",)), False),
        (Condition(logins=("ind.1",)), True),
        (Condition(logins=("ind.2",)), False),
        (Condition(days=(0,)), True),
        (Condition(days=(1, 6)), False),
        (Condition(from_minute=900, until_minute=960), True),
        (Condition(from_minute=960, until_minute=900), False),
        (Condition(days=(6,), from_minute=960, until_minute=931), True),  # Sunday's window ends on Monday
        (Condition(days=(6,), from_minute=960, until_minute=930), False),
        (Condition(all_of=(Condition(), Condition(above=5))), True),
        (Condition(all_of=(Condition(), Condition(up_to=5))), False),
        (Condition(any_of=(Condition(up_to=5), Condition(above=5))), True),
        (Condition(any_of=(Condition(up_to=5), Condition(above=10**9))), False),
        (Condition(none_of=(Condition(up_to=5),)), True),
        (Condition(none_of=(Condition(),)), False),
        (Condition(types=(KIND,), units=(1,)), False),
    ],
)
def test_what_a_condition_says(condition: Condition, holds: bool) -> None:  # noqa: FBT001
    org = house()
    facts = Facts(KIND, org.above(TILL), 100_000, frozenset({"a"}), "ind.1", minute_of_week(NOW, org.zone))
    assert facts.minute == 15 * 60 + 30
    assert compiled(condition)(facts) is holds


# ---------------------------------------------------------------- who can fill a need

AREA = {99: OrgUnit(99, UnitKind.TILL, "beside", store_id=STORE)}


@pytest.mark.parametrize(
    ("need", "able"),
    [
        (Need(), {"P0", "P1", "P2", "P3", "P4"}),
        (Need(level=Level.STORE), {"P1", "P2", "P3", "P4"}),
        (Need(level=Level.ZONE), {"P2", "P4"}),
        (Need(level=Level.CONCEPT), {"P3", "P4"}),
        (Need(level=Level.ORGANISATION), {"P4"}),
        (Need(group="finance"), {"P0", "P2"}),
        (Need(group="finance", level=Level.ZONE), {"P2"}),
        (Need(group="unknown"), set()),
        (Need(other_store=True), {"P2", "P3"}),
    ],
)
def test_levels_groups_and_other_stores_narrow_who_can_decide(need: Need, able: set[str]) -> None:
    org = house(
        checks("P0", TILL), checks("P1", STORE), checks("P2", ZONE), checks("P3", CONCEPT), checks("P4", None),
        grant("P4", Right.MAKE, 99),
        groups={"finance": ["P0", "P2", MAKER]}, units={**organisation().units, **AREA},
    )  # fmt: skip
    assert set(eligibility.eligible(org, need, CASE)) == able


FAR = {201: OrgUnit(201, UnitKind.STORE, "far", zone_parent_id=ZONE, concept_parent_id=CONCEPT),
       202: OrgUnit(202, UnitKind.TILL, "far till", store_id=201)}  # fmt: skip


@pytest.mark.parametrize("asked_at", [TILL, ZONE, 202])
@pytest.mark.parametrize("by_group", [False, True])
def test_the_maker_s_own_store_is_no_other_store_wherever_the_request_is_made(asked_at: int, by_group: bool) -> None:  # noqa: FBT001
    """The maker names the unit: a request at another till or at a zone asks no colleague of theirs for the eyes."""
    gone = grant(MAKER, Right.MAKE, STORE, valid_until=NOW)
    makes = grant("" if by_group else MAKER, Right.MAKE, 202, group_id="makers" if by_group else None)
    org = house(
        gone, makes, checks("P0", None), checks("P1", None), grant("P1", Right.FREEZE, 201), checks("P2", None),
        grant("P2", Right.MAKE, STORE), checks("P3", None), grant("P3", Right.CHECK, 202, valid_until=NOW),
        groups={"makers": [MAKER]}, units={**organisation().units, **FAR},
    )  # fmt: skip
    needs = (Need(other_store=True),)
    stores = eligibility.maker_stores(org, needs, MAKER, NOW)
    case = replace(CASE, unit_id=asked_at, maker_stores=stores)
    able = {"P0", "P3"} if asked_at == TILL else {"P0", "P2", "P3"}
    assert set(eligibility.eligible(org, needs[0], case)) == able
    assert eligibility.maker_stores(org, (Need(),), MAKER, NOW) == frozenset()
    for _ in range(2):  # what was worked out for one maker is not taken for another's stores
        assert eligibility.can_be_met(org, (Need(len(able), other_store=True),), case)
        assert not eligibility.can_be_met(org, (Need(len(able) + 1, other_store=True),), case)
        assert eligibility.can_be_met(org, (Need(3, other_store=True),), replace(case, maker_stores=frozenset()))


def test_a_group_that_is_given_a_grant_gives_it_to_its_people_and_to_nobody_else() -> None:
    given_to = replace(checks("", ZONE), group_id="finance")
    org = house(given_to, groups={"finance": ["P1"], "other": ["P2"]})
    assert eligibility.eligible(org, Need(), CASE) == ["P1"]
    assert eligibility.eligible(house(given_to), Need(), CASE) == []  # the group is gone


def test_whoever_is_barred_or_inactive_fills_nothing() -> None:
    org = house(checks("P1"), checks("P2"), people={"P2": Person("P2", "P2", active=False)})
    assert eligibility.eligible(org, Need(), replace(CASE, barred=frozenset({"P1"}))) == []


NEEDS = st.lists(
    st.builds(Need, st.integers(1, 2), st.sampled_from([None, "a", "b"]), st.sampled_from([None, Level.ZONE]),
              st.booleans(), st.integers(1, 2)),
    min_size=1, max_size=3,
).map(tuple)  # fmt: skip
GRANTS = st.lists(
    st.builds(checks, st.sampled_from([*PEOPLE, MAKER]), st.sampled_from([TILL, STORE, ZONE, None]),
              points_max=st.sampled_from([None, 99_999]), valid_until=st.sampled_from([None, NOW])),
    max_size=8,
)  # fmt: skip
GROUPS = st.fixed_dictionaries({key: st.lists(st.sampled_from([*PEOPLE, MAKER]), unique=True) for key in "ab"})


def brute(org: Organisation, needs: tuple[Need, ...], people: Sequence[str]) -> bool:
    """Whether some order of the people fills every place; written without any matching."""
    places = eligibility.places_of(needs)
    return any(
        all(eligibility.can_fill(org, person, need, CASE) for person, need in zip(order, places, strict=True))
        for order in permutations(people, len(places))
    )


@settings(deadline=None, max_examples=60)
@given(NEEDS, GRANTS, GROUPS)
def test_what_can_be_met_is_what_some_different_people_can_do(
    needs: tuple[Need, ...], grants: list[Any], groups: dict[str, list[str]]
) -> None:
    org = house(*grants, groups=groups)
    able = brute(org, needs, [*PEOPLE, MAKER])
    assert eligibility.can_be_met(org, needs, CASE) is able
    assert eligibility.can_be_met(org, needs, CASE) is able  # now from what was worked out once
    for other in PEOPLE[:2]:  # another maker meets the same cache
        barred = replace(CASE, barred=frozenset({other}))
        fresh = house(*grants, groups=groups)
        assert eligibility.can_be_met(org, needs, barred) is eligibility.can_be_met(fresh, needs, barred)
        places = [eligibility.eligible(fresh, need, barred) for need in eligibility.places_of(needs)]
        assert eligibility.can_be_met(org, needs, barred) is (None not in assign(places))


@settings(deadline=None, max_examples=60)
@given(NEEDS, GRANTS, GROUPS, st.permutations(PEOPLE))
def test_voices_meet_a_requirement_as_any_assignment_could(
    needs: tuple[Need, ...], grants: list[Any], groups: dict[str, list[str]], order: list[str]
) -> None:
    org = house(*grants, groups=groups)
    for count in range(len(order) + 1):
        voices = [Voice(each, each) for each in order[:count]]
        met = None not in eligibility.assigned(org, needs, voices, CASE)
        assert met is brute(org, needs, order[:count])


# ---------------------------------------------------------------- rulings


def ruling_of(org: Organisation, points: int = 100_000, **changes: Any) -> Any:
    return rulings.may_submit(org, actor_of(org, MAKER), PLACE, KIND, points, NOW, **changes)


TWO = (checks("P1"), checks("P2"))
SMALL = Rule("small", Condition(up_to=100_000), (Need(),), comment_above=50_000, life_hours=24)
LARGE = Rule("large", Condition(), (Need(2),))


def test_the_first_rule_that_applies_is_frozen() -> None:
    org = house(*TWO, policy=Policy(7, rules=(SMALL, LARGE)))
    small, large = ruling_of(org), ruling_of(org, 100_001)
    assert isinstance(small, Ruling)
    assert isinstance(large, Ruling)
    assert (small.requirement.rule, small.requirement.approvals, small.requirement.comment) == ("small", 1, True)
    assert small.expires_at is not None
    assert (small.expires_at - NOW).total_seconds() == 24 * 3600
    assert (large.requirement.rule, large.requirement.approvals, large.requirement.comment) == ("large", 2, False)
    assert large.expires_at is None
    assert ruling_of(org, 50_000).requirement.comment is False


@pytest.mark.parametrize(
    "policy",
    [
        Policy(1, rules=(Rule("never", Condition(types=("EARN-BADGE",)), (Need(),)),)),
        Policy(1, rules=(Rule("group", Condition(), (Need(group="empty"),)),)),
        Policy(1, rules=(Rule("quorum", Condition(), (Need(0),)),)),
        Policy(1, rules=(Rule("nobody", Condition(), ()),)),
        Policy(1, rules=(Rule("too many", Condition(), (Need(2), Need(1))),)),
        Policy(1, rules=(Rule("same people", Condition(), (Need(group="two"), Need(2))),)),
        None,
    ],
    ids=["no rule", "empty group", "quorum 0", "no need", "too many", "different people", "no policy"],
)
def test_a_policy_that_nobody_can_meet_fails_closed(policy: Policy | None) -> None:
    refused = ruling_of(house(*TWO, groups={"empty": [], "two": ["P1", "P2"]}, policy=policy))
    assert isinstance(refused, NobodyCanCheck)


def test_who_is_the_member_makes_nothing_and_does_not_count_as_a_checker() -> None:
    org = house(*TWO, policy=Policy(1, 2))
    assert isinstance(ruling_of(org, concerned=frozenset({MAKER})), SelfInterest)
    assert isinstance(ruling_of(org, concerned=frozenset({"P1"})), NobodyCanCheck)
    assert isinstance(ruling_of(org, concerned=frozenset({"P3"})), Ruling)


AUTO = Rule("auto", Condition(), (Need(),), AutoApproval(100_000, 200_000, 300_000, 400_000))


def tallies(member: int = 0, maker: int = 0, everybody: int = 0) -> dict[str, Tally]:
    return {
        "auto:auto:member": Tally("m", DAY, member),
        "auto:auto:maker": Tally(MAKER, DAY, maker),
        "auto:auto:day": Tally("", DAY, everybody),
    }


@pytest.mark.parametrize(
    ("points", "counted", "clean", "automatic"),
    [
        (100_000, tallies(), True, True),
        (100_001, tallies(), True, False),
        (100_000, tallies(), False, False),
        (100_000, tallies(100_000, 200_000, 300_000), True, True),
        (100_000, tallies(100_001), True, False),
        (100_000, tallies(0, 200_001), True, False),
        (100_000, tallies(0, 0, 300_001), True, False),
        (100_000, {}, True, False),
    ],
)
def test_automatic_only_below_every_cap_and_without_any_flag(
    points: int, counted: dict[str, Tally], *, clean: bool, automatic: bool
) -> None:
    found = ruling_of(house(*TWO, policy=Policy(1, rules=(AUTO,))), points, tallies=counted, may_be_automatic=clean)
    assert isinstance(found, Ruling)
    assert (found.auto_rule == "auto") is automatic
    assert len(found.uses) == 3 * automatic
    assert found.requirement.approvals == 1


@pytest.mark.parametrize(
    ("cap", "used", "expected"),
    [
        (Cap("c", CapSubject.REQUEST, 100_000), 0, 1),
        (Cap("c", CapSubject.REQUEST, 99_999), 0, CapReached),
        (Cap("c", CapSubject.REQUEST, 99_999, needs=(Need(1),)), 0, 2),
        (Cap("c", CapSubject.MAKER, 150_000), 50_000, 1),
        (Cap("c", CapSubject.MAKER, 150_000), 50_001, CapReached),
        (Cap("c", CapSubject.DAY, 150_000, needs=(Need(1),)), 50_001, 2),
        (Cap("c", CapSubject.DAY, 150_000, needs=(Need(1, "none"),)), 50_001, NobodyCanCheck),
        (Cap("c", CapSubject.MEMBER, 1, Condition(types=("EARN-BADGE",))), 10**9, 1),
        (Cap("c", CapSubject.PAIR, 1), 0, 1),
    ],
)
def test_a_cap_raises_the_requirement_or_refuses(cap: Cap, used: int, expected: Any) -> None:
    org = house(*TWO, policy=Policy(1, rules=(replace(SMALL, comment_above=None),), caps=(cap,)))
    found = ruling_of(org, tallies={"c": Tally("s", DAY, used)})
    if isinstance(expected, int):
        assert isinstance(found, Ruling), found
        assert found.requirement.approvals == expected
        assert [each.cap for each in found.uses] == (["c"] if cap.per in ("maker", "day") else [])
        assert [each.name for each in found.requirement.pair_caps] == (["c"] if cap.per == "pair" else [])
    else:
        assert isinstance(found, expected)


def test_goodwill_above_its_cap_has_the_contract_s_code() -> None:
    org = house(*TWO, policy=Policy(1, caps=(Cap("goodwill", CapSubject.REQUEST, 1),)))
    refused = rulings.may_submit(org, actor_of(org, MAKER), PLACE, "GOODWILL-POINTS", 2, NOW)
    assert isinstance(refused, BadGoodwillPoints)
    assert refused.code == 2015


def test_counters_are_asked_for_where_they_may_be_needed() -> None:
    timed = Cap("timed", CapSubject.MAKER, 1, Condition(days=(6,)))
    other = Cap("other", CapSubject.DAY, 1, Condition(types=("EARN-BADGE",)))
    pair, each = Cap("pair", CapSubject.PAIR, 1), Cap("each", CapSubject.REQUEST, 1)
    policy = Policy(1, rules=(replace(AUTO, when=Condition(up_to=5)), LARGE), caps=(timed, other, pair, each))
    org = house(*TWO, policy=policy)
    asked = list(rulings.counters_wanted(org, actor_of(org, MAKER), PLACE, KIND, 6))
    assert [cap.name for cap in asked] == ["timed"]
    asked = list(rulings.counters_wanted(org, actor_of(org, MAKER), PLACE, KIND, 5))
    assert [cap.name for cap in asked] == ["timed", "auto:auto:member", "auto:auto:maker", "auto:auto:day"]
    assert not list(rulings.counters_wanted(house(*TWO), actor_of(org, MAKER), PLACE, KIND, 5))
