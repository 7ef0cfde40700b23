"""The reasons are the rules' own, and the reports find what they look for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from counterfoil.domain.access import Right, has_right
from counterfoil.domain.conditions import Condition
from counterfoil.domain.explanations import Question, both_rights, explain, without_checker
from counterfoil.domain.organisations import Group
from counterfoil.domain.policies import Need, Policy, Rule
from tests.builders import CHECKER, CONCEPT, MAKER, OTHER_CHECKER, STORE, TILL, ZONE, grant, organisation

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
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


def test_makers_for_whom_nobody_could_decide_are_found() -> None:
    rules = (Rule("small", Condition(up_to=10), (Need(),)), Rule("large", Condition(above=10), (Need(2),)))
    org = organisation(policy=Policy(1, rules=rules))
    assert list(without_checker(org, NOW)) == []
    one = organisation(policy=Policy(1, rules=rules), grants=(grant(MAKER, Right.MAKE), grant(CHECKER, Right.CHECK)))
    found = list(without_checker(one, NOW))
    assert {(each.unit_id, each.person_id, each.rule) for each in found} == {(TILL, MAKER, "large")}
    assert "others with a right to decide there: E-checker" in found[0].reason
