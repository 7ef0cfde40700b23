"""What is proved about a policy is true of every request that chance comes up with."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from counterfoil.domain import proofs
from counterfoil.domain.access import OrgUnit, UnitKind, units_above
from counterfoil.domain.conditions import Condition, Facts, compiled
from counterfoil.domain.payload_types import WITH_POINTS
from counterfoil.domain.payloads import POINTS_MAX
from counterfoil.domain.policies import AutoApproval, Cap, CapSubject, Need, Policy, Rule

UNITS = {
    1: OrgUnit(1, UnitKind.ZONE, "north"),
    2: OrgUnit(2, UnitKind.ZONE, "city", zone_parent_id=1),
    3: OrgUnit(3, UnitKind.CONCEPT, "shoes"),
    4: OrgUnit(4, UnitKind.STORE, "store", None, 2, 3),
    5: OrgUnit(5, UnitKind.STORE, "other store", None, 1, 3),
    6: OrgUnit(6, UnitKind.TILL, "till", store_id=4),
}
TYPES = ("POINTS-REDEMPTION", "GOODWILL-POINTS")
AMOUNT = st.sampled_from([1, 100, 101, 5_000])
SIMPLE: st.SearchStrategy[Any] = st.one_of(
    st.builds(Condition, types=st.sampled_from([(TYPES[0],), TYPES]), above=st.none() | AMOUNT),
    st.builds(Condition, units=st.sampled_from([(1,), (2, 3), (4,), (6,)]), up_to=st.none() | AMOUNT),
    st.builds(Condition, maker_groups=st.sampled_from([("a",), ("a", "b")])),
    st.builds(Condition, logins=st.sampled_from([(), ("till",)]), above=st.none() | AMOUNT, up_to=st.none() | AMOUNT),
    st.builds(Condition, days=st.sampled_from([(), (0, 5), (6,)]), from_minute=st.none() | st.sampled_from([60, 1200]),
              until_minute=st.none() | st.sampled_from([600, 1440])),
    st.just(Condition()),
)  # fmt: skip
CONDITION = SIMPLE | st.one_of(
    st.builds(Condition, all_of=st.tuples(SIMPLE, SIMPLE)),
    st.builds(Condition, any_of=st.tuples(SIMPLE, SIMPLE), up_to=st.none() | AMOUNT),
    st.builds(Condition, none_of=st.tuples(SIMPLE)),
)
SOME = settings(deadline=None, max_examples=60)
RULES = st.lists(
    st.tuples(CONDITION, st.integers(1, 3), st.booleans()), min_size=1, max_size=3
).map(lambda rows: tuple(
    Rule(f"r{number}", when, (Need(count),), AutoApproval(100, 100, 100, 100) if auto else None)
    for number, (when, count, auto) in enumerate(rows)
))  # fmt: skip
CAPS = st.lists(st.tuples(CONDITION, AMOUNT, st.booleans()), max_size=1).map(lambda rows: tuple(
    Cap(f"c{number}", CapSubject.REQUEST, points, when, (Need(),) if raises else ())
    for number, (when, points, raises) in enumerate(rows)
))  # fmt: skip
FACTS = st.builds(
    Facts,
    st.sampled_from([*TYPES, "EARN-BADGE"]),
    st.sampled_from([units_above(UNITS, unit) for unit in UNITS]),
    st.sampled_from([0, 1, 2, 99, 100, 101, 102, 5_000, 5_001, POINTS_MAX]),
    st.sampled_from([frozenset(), frozenset("a"), frozenset("b"), frozenset("ab")]),
    st.sampled_from(["till", "somebody"]),
    st.integers(0, 7 * 24 * 60 - 1),
).filter(lambda facts: (facts.request_type in WITH_POINTS) == (facts.points > 0))


def approvals(policy: Policy, facts: Facts) -> int | None:
    """How many must agree, worked out for one request; None where none is accepted."""
    rule = next(each for each in policy.rules if compiled(each.when)(facts))
    extra = 0
    for cap in policy.caps:
        if facts.points > cap.points and compiled(cap.when)(facts):
            if not cap.needs:
                return None
            extra += sum(need.count for need in cap.needs)
    if rule.auto is not None and not extra and 0 < facts.points <= rule.auto.per_request:
        return 0
    return rule.needs[0].count + extra


def is_in(region: proofs.Region, facts: Facts, named: frozenset[int]) -> bool:
    return (
        facts.request_type in region.types
        and facts.places & named in region.places
        and region.low <= facts.points <= region.high
        and all((group in facts.maker_groups) is held for group, held in region.groups)
        and (facts.login if facts.login in region.logins else proofs.OTHER_LOGIN) in region.logins
        and (facts.login != "till" or "till" in region.logins or "till" not in LOGINS_NAMED)
        and any(start <= facts.minute < end for start, end in region.minutes)
    )


LOGINS_NAMED = {"till"}


@SOME
@given(RULES, CAPS, st.lists(FACTS, min_size=1, max_size=20))
def test_no_request_contradicts_the_proof(rules: tuple[Rule, ...], caps: tuple[Cap, ...], sampled: list[Facts]) -> None:
    policy = Policy(1, rules=rules, caps=caps)
    found = proofs.examine(policy, UNITS)
    for facts in sampled:
        if not any(compiled(rule.when)(facts) for rule in rules):
            assert found.gaps, facts
            continue
        needed = approvals(policy, facts)
        rule = next(each for each in rules if compiled(each.when)(facts))
        assert rule.name in found.reached
        if needed is None:
            continue
        assert any(low < facts.points <= high and least <= needed for low, high, least in found.least)
        if needed == 0:
            assert found.automatic_max >= facts.points
        for bound in (0, 100, 5_000):
            if facts.points > bound or bound == 0:
                assert proofs.breach(found, bound, needed + 1) is not None


@SOME
@given(RULES, CAPS)
def test_every_counter_example_is_one(rules: tuple[Rule, ...], caps: tuple[Cap, ...]) -> None:
    policy = Policy(1, rules=rules, caps=caps)
    found = proofs.examine(policy, UNITS)
    for region in found.gaps:
        unit_id, facts = proofs.example(region, UNITS)
        assert unit_id is not None
        facts = Facts(facts.request_type, units_above(UNITS, unit_id), facts.points, facts.maker_groups, facts.login,
                      facts.minute)  # fmt: skip
        assert not any(compiled(rule.when)(facts) for rule in rules)
        assert proofs.describe_example(region, UNITS)
    for bound, count in ((0, 1), (100, 2), (5_000, 4)):
        broken = proofs.breach(found, bound, count)
        if broken is not None:
            unit_id, facts = proofs.example(broken[0], UNITS)
            assert unit_id is not None
            facts = Facts(facts.request_type, units_above(UNITS, unit_id), facts.points, facts.maker_groups,
                          facts.login, facts.minute)  # fmt: skip
            assert facts.points > bound or (bound == 0 and facts.request_type not in WITH_POINTS)
            needed = approvals(policy, facts)
            assert needed is not None
            assert needed < count


@SOME
@given(RULES, st.lists(FACTS, min_size=1, max_size=10))
def test_the_regions_cover_everything_and_do_not_overlap(rules: tuple[Rule, ...], sampled: list[Facts]) -> None:
    policy = Policy(1, rules=rules)
    whole = proofs.everything(policy, UNITS)
    named = frozenset().union(*whole.places)
    LOGINS_NAMED.clear()
    LOGINS_NAMED.update(whole.logins)
    leaves = list(proofs.leaves(policy, UNITS))
    for facts in sampled:
        around = [leaf for leaf in leaves if is_in(leaf.region, facts, named)]
        assert len(around) == 1, facts
        rule = next((each for each in rules if compiled(each.when)(facts)), None)
        assert around[0].rule == rule


def test_bands_that_overlap_are_found_and_nested_ones_are_not() -> None:
    def overlap(*bands: tuple[int | None, int | None]) -> list[tuple[int, int, int]]:
        rules = tuple(Rule(str(number), Condition(above=a, up_to=b)) for number, (a, b) in enumerate(bands))
        return list(proofs.overlapping(Policy(1, rules=rules)))

    assert overlap((None, 100), (100, 200), (200, None)) == []
    assert overlap((None, 100), (None, 200), (None, None)) == []
    assert overlap((None, 100), (90, 200)) == [(0, 1, 100)]
