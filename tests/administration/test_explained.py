"""What is explained of rights under dual control is what a decision or a submission is told."""

from __future__ import annotations

from typing import Any

from tests.administration.test_suspension import NEW, let_time_pass, until_of
from tests.administration.town import BEN, CAL, KIM, TILL, Town, error_of, grant


def may_check(town: Town, person: str) -> tuple[dict[str, Any], list[str]]:
    """The explanation of the person's deciding right, and who is named beside somebody who has none."""
    found = []
    for each in (person, "mia"):
        query = {"person": each, "unit": str(TILL), "type": "POINTS-REDEMPTION", "points": "5"}
        answer = town.http.get("/counterfoil/v1/access", params=query, headers=town.headers(None))
        found.append(answer.json()["data"]["rights"][1])
    return found[0], found[1]["others"]


def test_a_suspension_is_the_reason(town: Town) -> None:
    town.change(town.person(CAL, password=NEW))
    town.token(CAL, NEW)
    told, others = may_check(town, CAL)
    assert (told["allowed"], CAL in others) == (False, False)
    said = error_of(town.check(town.request(), by=CAL), 403, 2001)
    assert said == told["reasons"][0]
    assert told["reasons"][1:] == ["CanCheckRequest for the whole organisation: would cover it"]


def test_to_administer_is_the_reason(town: Town) -> None:
    town.change(town.with_grants(grant(CAL, "CanAdminister"), without=[CAL]))
    for person in (BEN, CAL):
        told, others = may_check(town, person)
        assert (told["allowed"], person in others) == (False, False)
        said = error_of(town.check(town.request(), by=person), 403, 2001)
        assert said == told["reasons"][0]


def test_until_when_nobody_can_decide_because_all_are_suspended(town: Town) -> None:
    for person in (CAL, KIM):
        town.change(town.person(person, password=NEW))
    until = until_of(town, CAL)
    assert until is not None
    error_of(town.submit(), 400, 2021, f"nobody can decide this request before {until:%Y-%m-%dT%H:%M:%SZ}", "suspended")
    let_time_pass(town, CAL)
    assert town.submit().status_code == 200
    town.change(town.with_grants(without=[CAL, KIM]))
    error_of(town.submit(), 400, 2021, "nobody could ever decide this request")
