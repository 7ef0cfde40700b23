"""Whose right a voice uses, over any delegations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from counterfoil.application import ids
from counterfoil.domain import access, decisions, delegations
from counterfoil.domain.access import Right
from counterfoil.domain.organisations import Delegation, Policy, Programme
from counterfoil.domain.policies import Need, Requirement
from counterfoil.domain.requests import Decision, Request, State
from tests.builders import CHECKER, MAKER, OTHER_CHECKER, TILL, ZONE, decide_command, grant, organisation

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PEOPLE = [MAKER, CHECKER, OTHER_CHECKER]
LENT = st.builds(
    lambda pair, hours, kind, most, unit: Delegation(
        ids.uuid7(),
        pair[0],
        pair[1],
        NOW - timedelta(hours=hours[0]),
        NOW + timedelta(hours=hours[1]),
        unit,
        kind,
        most,
    ),
    st.permutations(PEOPLE).map(lambda found: found[:2]),
    st.tuples(st.integers(-2, 5), st.integers(-1, 5)),
    st.sampled_from([None, "POINTS-REDEMPTION", "EARN-BADGE"]),
    st.sampled_from([None, 99, 100]),
    st.sampled_from([None, ZONE, TILL]),
)
RIGHTS = st.sets(st.sampled_from(PEOPLE))


def holders(found: Any, person: str) -> tuple[str, ...]:
    return access.holders(
        found, person, frozenset({MAKER}), unit_id=TILL, request_type="POINTS-REDEMPTION", points=100, now=NOW
    )


@given(st.lists(LENT, max_size=6), RIGHTS)
def test_whose_right_is_used(lent: list[Delegation], checkers: set[str]) -> None:
    """The own right first; a lent one only from somebody who has it by a grant; never the maker's."""
    found = organisation(grants=tuple(grant(each, Right.CHECK) for each in sorted(checkers)), delegations=tuple(lent))
    assert holders(found, MAKER) == ()
    for person in (CHECKER, OTHER_CHECKER):
        usable = holders(found, person)
        assert MAKER not in usable
        assert set(usable) <= checkers
        assert len(set(usable)) == len(usable)
        assert (person in checkers) == (usable[:1] == (person,))
        for holder in set(usable) - {person}:
            assert any(
                (each.delegator_id, each.delegate_id) == (holder, person) and each.covers("POINTS-REDEMPTION", 100, NOW)
                for each in lent
            )


def test_a_person_who_is_not_active_uses_no_right() -> None:
    lent = Delegation(ids.uuid7(), CHECKER, OTHER_CHECKER, NOW, NOW + timedelta(days=1))
    found = organisation(grants=(grant(CHECKER, Right.CHECK),), delegations=(lent,))
    assert holders(found, OTHER_CHECKER) == (CHECKER,)
    for person in (CHECKER, OTHER_CHECKER):
        people = {each: found.people[each] for each in found.people if each != person}
        gone = organisation(grants=found.grants, delegations=(lent,), people=people)
        assert holders(gone, OTHER_CHECKER) == ()


def test_both_people_of_a_voice_are_used_up() -> None:
    assert delegations.used_up([("a", None), ("b", "c")]) == {"a", "b", "c"}


def test_the_right_that_is_named_is_used() -> None:
    """Or none: a checker who may act for two people can say for whom."""
    lent = Delegation(ids.uuid7(), CHECKER, OTHER_CHECKER, NOW, NOW + timedelta(days=1))
    found = organisation(delegations=(lent,), policy=Policy(1, 3), programme=Programme(1, "Demo"))
    request = Request(
        ids.uuid7(), "POINTS-REDEMPTION", State.PENDING, MAKER, 1, "m", TILL, 100, "h1", 1, b"{}", b"d", 3, NOW,
        requirement=Requirement((Need(3),)),
    )  # fmt: skip

    def voice(on_behalf_of: str | None, *earlier: Decision) -> Any:
        command = decide_command(found, request.request_id, person_id=OTHER_CHECKER, on_behalf_of=on_behalf_of)
        asked = replace(request, decisions=earlier)
        return decisions.decide(
            found, asked, command, None, None, reference_used=False, redemption_id="AAAAAA", now=NOW
        )

    assert voice(None).decision.on_behalf_of is None
    assert voice(CHECKER).decision.on_behalf_of == CHECKER
    assert voice(MAKER).code == 2001
    used = Decision(CHECKER, 1, "c", "approved", "", NOW)
    assert voice(CHECKER, used).code == 2002
    assert voice(None, used).decision.on_behalf_of is None
