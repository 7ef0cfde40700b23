"""The reasons are the rules' own, and the reports find what they look for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from counterfoil.domain.access import Right, has_right, may_decide
from counterfoil.domain.conditions import Condition
from counterfoil.domain.explanations import Question, both_rights, explain, without_checker
from counterfoil.domain.organisations import Delegation, Group, Organisation, Person, User
from counterfoil.domain.policies import SIMPLE, Cap, CapSubject, Need, Policy, Rule
from tests.builders import CHECKER, CONCEPT, MAKER, OTHER_CHECKER, STORE, TILL, ZONE, actor_of, grant, organisation

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SOON = NOW + timedelta(hours=1)
PEOPLE = (MAKER, CHECKER, OTHER_CHECKER)
ASKED = Question(CHECKER, TILL, "POINTS-REDEMPTION", 100_000, NOW)


def reasons(*grants: Any, **changes: Any) -> tuple[str, ...]:
    return explain(organisation(grants=grants, **changes), ASKED)[1].reasons


def test_each_part_that_is_missing_is_named() -> None:
    many = grant(
        CHECKER, Right.CHECK, 1, request_type="EARN-BADGE", points_max=99_000, valid_until=NOW,
        valid_from=NOW + timedelta(days=1),
    )  # fmt: skip
    [told] = reasons(many)
    for part in ("unit 50682289 is not below it", "only for EARN-BADGE", "only up to 99 points", "begins", "ended"):
        assert part in told
    assert reasons(grant(CHECKER, Right.CHECK)) == (f"CanCheckRequest at unit {ZONE}: covers it",)


def test_a_grant_through_a_group_says_so() -> None:
    given_to = replace(grant("", Right.CHECK, None), group_id="finance")
    [told] = reasons(given_to, groups={"finance": Group("finance", "Finance", (CHECKER,))})
    assert told == "CanCheckRequest for the whole organisation through the group finance: covers it"
    assert reasons(given_to) == ("E-checker has no grant of CanCheckRequest, neither of their own nor through a group",)


def test_who_does_not_exist_or_cannot_sign_in() -> None:
    org = organisation()
    assert explain(org, replace(ASKED, person_id="X"))[0].reasons == ("there is no person X",)
    no_user = organisation(users={})
    assert any("cannot sign in" in each for each in explain(no_user, ASKED)[1].reasons)
    closed = {**org.units, TILL: replace(org.units[TILL], active=False)}
    assert any(
        "closed" in each for each in explain(organisation(units=closed), replace(ASKED, person_id=MAKER))[0].reasons
    )


GRANTS = st.lists(
    st.builds(grant, st.sampled_from([MAKER, CHECKER, OTHER_CHECKER]), st.sampled_from([Right.MAKE, Right.CHECK]),
              st.sampled_from([TILL, STORE, ZONE, CONCEPT, None, 7])),
    max_size=6,
)  # fmt: skip


@settings(deadline=None)
@given(GRANTS)
def test_the_answer_is_the_rule_s(grants: list[Any]) -> None:
    org = organisation(grants=tuple(grants))
    for each in explain(org, ASKED):
        held = {
            person
            for person in org.people
            if has_right(
                org, person, each.right, unit_id=TILL, request_type=ASKED.request_type, points=100_000, now=NOW
            )
        }
        assert each.is_allowed is (CHECKER in held)
        assert set(each.others) == held - {CHECKER}
        assert any(reason.endswith("covers it") for reason in each.reasons) is each.is_allowed
    both = {each.person_id: each.unit_ids for each in both_rights(org, NOW)}
    for person in org.people:
        here = all(has_right(org, person, right, unit_id=TILL, request_type="x", points=0, now=NOW)
                   for right in (Right.MAKE, Right.CHECK))  # fmt: skip
        assert any(unit in org.above(TILL) for unit in both.get(person, ())) is here


ORGANISATIONS = st.builds(
    lambda grants, lent, suspended, signs_in, control: organisation(
        grants=tuple(grants),
        delegations=tuple(lent),
        people={each: Person(each, each, suspended_until=SOON if each in suspended else None) for each in PEOPLE},
        users={number: User(number, each, each, active=each in signs_in) for number, each in enumerate(PEOPLE)},
        control=control,
    ),
    st.lists(st.builds(grant, st.sampled_from(PEOPLE), st.sampled_from([Right.CHECK, Right.ADMINISTER]),
                       st.sampled_from([TILL, None, 7]), points_max=st.sampled_from([None, 99_000])), max_size=5),
    st.lists(st.builds(Delegation, st.just(UUID(int=1)), st.sampled_from(PEOPLE), st.just(CHECKER), st.just(NOW),
                       st.sampled_from([NOW, SOON]), st.sampled_from([None, TILL, 7]),
                       st.sampled_from([None, "EARN-BADGE"]), st.sampled_from([None, 99_000])), max_size=3),
    st.frozensets(st.sampled_from(PEOPLE)),
    st.frozensets(st.sampled_from(PEOPLE), min_size=1),
    st.sampled_from(["single", "dual"]),
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(ORGANISATIONS, st.sampled_from(["POINTS-REDEMPTION", "EARN-BADGE"]))
def test_the_answer_is_what_a_decision_is_told(org: Organisation, kind: str) -> None:
    """With the reasons: whatever stands in the way is named, and nothing is said to cover it that does not."""
    told = explain(org, replace(ASKED, request_type=kind))[1]
    actor = replace(actor_of(org, CHECKER), has_user=CHECKER in org.people_with_user)
    refused = may_decide(org, actor, MAKER, unit_id=TILL, request_type=kind,
                         points=100_000 if kind == "POINTS-REDEMPTION" else None, now=NOW)  # fmt: skip
    assert told.is_allowed is (refused is None)
    assert any(reason.endswith(": covers it") for reason in told.reasons) is told.is_allowed


def test_makers_of_what_caps_and_nested_conditions_ask_for_are_found() -> None:
    def found(policy: Policy) -> set[tuple[str, str]]:
        grants = (grant(MAKER, Right.MAKE), grant(CHECKER, Right.CHECK))
        return {
            (each.request_type, each.rule) for each in without_checker(organisation(policy=policy, grants=grants), NOW)
        }

    needs = (Need(1, "finance"),)
    points = {"POINTS-REDEMPTION", "GOODWILL-POINTS"}
    assert found(Policy(1)) == set()
    for per in CapSubject:
        if per is not CapSubject.PAIR:
            capped = Policy(1, caps=(Cap("c", per, 10, Condition(), needs),))
            assert found(capped) == {(kind, SIMPLE) for kind in points}, per
    nested = Condition(any_of=(Condition(types=("EARN-BADGE",)), Condition(all_of=(Condition(above=500),))))
    rules = (Rule("some", nested, needs), Rule("rest"))
    assert found(Policy(1, rules=rules)) == {(kind, "some") for kind in (*points, "EARN-BADGE")}
    on_sunday = (Rule("sunday", Condition(days=(6,)), needs), Rule("rest"))  # NOW is a Monday
    assert {rule for _, rule in found(Policy(1, rules=on_sunday))} == {"sunday"}


def test_makers_for_whom_nobody_could_decide_are_found() -> None:
    rules = (Rule("small", Condition(up_to=10), (Need(),)), Rule("large", Condition(above=10), (Need(2),)))
    org = organisation(policy=Policy(1, rules=rules))
    assert list(without_checker(org, NOW)) == []
    one = organisation(policy=Policy(1, rules=rules), grants=(grant(MAKER, Right.MAKE), grant(CHECKER, Right.CHECK)))
    found = list(without_checker(one, NOW))
    assert {(each.unit_id, each.person_id, each.rule) for each in found} == {(TILL, MAKER, "large")}
    assert "others with a right to decide there: E-checker" in found[0].reason
