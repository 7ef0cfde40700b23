"""How an organisation comes under dual control, and that the operator's way ends there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from counterfoil.application.administration import CannotApply
from tests.administration.town import ADA, BEN, Town, error_of, grant


def single(town: Town, **changes: Any) -> dict[str, Any]:
    """The town's file as that of another organisation under single control."""
    content = copy.deepcopy(town.content) | changes
    content["organisation"] |= {"id": town.org_id + 60_000_000, "control": "single"}
    content["credentials"] = [each | {"login": f"s.{each['login']}"} for each in content["credentials"]]
    return content


def dual(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"organisation": content["organisation"] | {"control": "dual"}}


def test_a_new_organisation_may_begin_under_dual_control(town: Town) -> None:
    assert town.rows("SELECT control, version FROM organisation WHERE org_id = $1")[0][0] == "dual"
    with pytest.raises(CannotApply, match="counterfoil login"):
        town.operate(town.part(policy={"approvals": 2}))
    assert town.version() == 1


def test_single_control_ends_once_and_for_all(town: Town) -> None:
    content = single(town)
    town.operate(content)
    town.operate(dual(content))
    for again in (content, dual(content) | {"policy": {"approvals": 3}}):
        with pytest.raises(CannotApply, match=r"dual control"):
            town.operate(again)


def caps(**caps: int) -> dict[str, Any]:
    return {"login": "box", "id": 9, "password": "pw", "rights": ["CanMovePointsDirectly"], **caps}


ADMINISTRATORS = [grant(each, "CanAdminister") for each in (ADA, BEN)]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nobody administers": ({"grants": []}, "there would be 0"),
    "one administers": ({"grants": ADMINISTRATORS[:1]}, "there would be 1: ada"),
    "one for a while": (
        {"grants": [ADMINISTRATORS[0], grant(BEN, "CanAdminister", until="2099-01-01")]},
        "does not end",
    ),
    "one begins later": (
        {"grants": [ADMINISTRATORS[0], {"person": BEN, "right": "CanAdminister", "from": "2099-01-01"}]},
        "there would be 1: ada",
    ),
    "one checks too": ({"grants": [*ADMINISTRATORS, grant(BEN, "CanCheckRequest")]}, "ben holds CanAdminister and Can"),
    "direct without caps": ({"credentials": [caps()]}, "needs directCapPerCall and directCapPerDay"),
    "direct with one cap": ({"credentials": [caps(directCapPerCall=5)]}, "needs directCapPerCall and directCapPerDay"),
    "no credential": ({"credentials": []}, "without an active credential"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_may_not_come_under_dual_control(make_town: Callable[..., Town], case: str) -> None:
    town = make_town()
    changes, said = WRONG[case]
    content = single(town, **changes)
    if case.startswith("direct"):
        content["credentials"][0]["login"] += str(town.org_id)
    town.operate(content)
    with pytest.raises(CannotApply, match=said):
        town.operate(dual(content))
    assert town.rows("SELECT control FROM organisation WHERE org_id = $1 + 60000000")[0][0] == "single"


def test_a_sign_in_without_a_password_administers_nothing(town: Town) -> None:
    content = single(town)
    for number in (1, 2):
        del content["people"][number]["users"][0]["password"]
    with pytest.raises(CannotApply, match="there would be 1: ada"):
        town.operate(dual(content))


def test_nothing_is_proposed_under_single_control(make_town: Callable[..., Town]) -> None:
    town = make_town()
    organisation = {"id": town.org_id, "name": "Town", "timeZone": "UTC", "countryCode": 91}
    other = Town(town.serve, town.http, town.org_id + 70_000_000)
    other.open(organisation=organisation | {"id": other.org_id})
    error_of(other.propose(other.part()), 403, 2001, "under single control", "counterfoil logout")
    other.operate(other.part(policy={"approvals": 2}))
