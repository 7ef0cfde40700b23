"""Policies over HTTP: what a client of the contract sees of automatic approval, and our own reads about access."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract import calls
from tests.contract.shop import (
    CHECKER,
    CREATE,
    NOBODY,
    OTHER_TILL,
    OTHER_ZONE,
    SECOND,
    STORE,
    TILL,
    ZONE,
    Shop,
    assert_refused,
    data_of,
    decision,
)
from tests.contract.test_life import SOON, good, post

ACCESS = "/counterfoil/v1/access"
AUTO = {"perRequest": 100, "perMember": 100, "perMaker": 1000, "perDay": 1000}
RULES = {
    "rules": [
        {"name": "small", "when": {"points": {"upTo": 100}}, "autoApprove": AUTO},
        {"name": "rest", "require": [{"group": "finance"}, {"step": 2}], "commentAbove": 1},
    ]
}
GROUPS = [{"id": "finance", "name": "Finance", "people": ["E-1002"]}]


@pytest.fixture(scope="module")
def shop(make_shop: Callable[..., Shop]) -> Shop:
    shop = make_shop()
    shop.content["policy"] = RULES
    shop.content["groups"] = GROUPS
    shop.apply()
    return shop


def test_what_is_approved_automatically_has_the_contract_s_four_keys(shop: Shop) -> None:
    member = shop.member()
    made = data_of(shop.submit(shop.body(member, points="100")))
    assert made["state"] == "approved"
    assert made["endTime"] is not None
    assert list(made["details"]) == [
        "IntouchAPITask-Payload", "ValidateMakerAccess_Output", "ValidatePayload_Output", "IntouchAPITask_Output",
    ]  # fmt: skip
    assert made["details"]["IntouchAPITask_Output"]["status"] == 200
    assert shop.points(member) == (900, 0)
    read = data_of(shop.get(made["requestId"]))
    assert (read["state"], list(read["details"])) == ("approved", list(made["details"]))
    assert_refused(shop.decide(made["requestId"]), 400, 2002)
    again = data_of(shop.submit(shop.body(member, points="1")))  # more than a member may have in a day
    assert (again["state"], again["endTime"]) == ("AdminTask", None)


def test_what_has_no_points_is_never_approved_automatically(shop: Shop) -> None:
    member = shop.member()
    for label in ("Suspended", "Active"):  # no cap would bound it, also by a rule that names no type
        kind = "CUSTOMER-STATUS-CHANGE"
        made = data_of(shop.submit(calls.body(shop, kind, member, label=label), path=calls.url(kind)))
        assert (made["state"], made["endTime"]) == ("AdminTask", None)


def test_a_member_has_one_cap_whatever_identifier_is_sent(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(programme={"goodwillExpiryDays": 30})
    shop.content["policy"] = {"rules": [{"name": "all", "autoApprove": AUTO}]}
    shop.apply()
    member = shop.member()
    given = shop.submit(calls.body(shop, "GOODWILL-POINTS", member, points=100), path=calls.url("GOODWILL-POINTS"))
    assert data_of(given)["state"] == "approved"
    assert data_of(shop.submit(shop.body(member, points="1")))["state"] == "AdminTask"


def test_the_same_key_is_answered_with_what_was_executed(shop: Shop) -> None:
    body = shop.body(shop.member(), points="5")
    first = shop.submit(body, Idempotency_Key="auto-1")
    again = shop.submit(body, Idempotency_Key="auto-1")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert data_of(again) == data_of(first)
    assert data_of(again)["state"] == "approved"


def test_the_steps_of_a_rule_and_its_comment(shop: Shop) -> None:
    request_id = data_of(shop.submit(shop.body(shop.member(), points="101")))["requestId"]
    assert_refused(shop.decide(request_id, by=SECOND), 403, 2001, "group finance")
    silent = shop.http.put(CREATE, json=decision(request_id, message=" "), headers=shop.headers(CHECKER))
    assert_refused(silent, 400, 2008, "payload.AdminTask-Payload.actionMessage")
    first = data_of(shop.decide(request_id))
    assert (first["state"], "AdminTask_Output" in first["details"]) == ("AdminTask", False)
    assert data_of(shop.decide(request_id, by=SECOND))["state"] == "approved"


def ask(shop: Shop, **query: object) -> Any:
    return shop.http.get(ACCESS, params=query, headers=shop.headers())  # type: ignore[arg-type]


def test_why_somebody_may_or_may_not(shop: Shop) -> None:
    answer = ask(shop, person="E-1001", unit=TILL, type="points-redemption", points="12.5")
    assert answer.status_code == 200, answer.text
    make, check = answer.json()["data"]["rights"]
    assert (make["right"], make["allowed"], make["others"]) == ("CanMakeRequest", True, ["E-1004"])
    assert make["reasons"] == [f"CanMakeRequest at unit {ZONE}: covers it"]
    assert (check["allowed"], check["others"]) == (False, ["E-1002", "E-1003", "E-1004"])
    assert "has no grant of CanCheckRequest" in check["reasons"][0]
    elsewhere = ask(shop, person="E-1001", unit=OTHER_TILL, type="POINTS-REDEMPTION").json()["data"]["rights"][0]
    assert elsewhere["allowed"] is False
    assert f"unit {OTHER_TILL} is not below it" in elsewhere["reasons"][0]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("delegate", "lent by E-1002: covers it"),
        ("no login", "has no active user"),
        ("a limit and no points", "only up to 100 points, and CUSTOMER-STATUS-CHANGE has none"),
    ],
)
def test_what_is_explained_is_what_a_decision_is_told(make_shop: Callable[..., Shop], case: str, said: str) -> None:
    shop = make_shop()
    kind, who, by = "POINTS-REDEMPTION", "E-1002", CHECKER
    if case == "delegate":
        who, by = "E-1005", NOBODY
        lent = {"delegate": who, "until": SOON.isoformat()}
        good(post(shop, "delegations", CHECKER, lent))
    token = shop.token(by)
    if case == "no login":
        next(each for each in shop.content["people"] if each["staffId"] == who)["users"][0]["active"] = False
    if case == "a limit and no points":
        kind = "CUSTOMER-STATUS-CHANGE"
        next(each for each in shop.content["grants"] if each["person"] == who)["pointsMax"] = 100
    shop.apply()
    request_id = data_of(shop.submit(calls.body(shop, kind), path=calls.url(kind)))["requestId"]
    told, other = (
        ask(shop, person=each, unit=TILL, type=kind, points="5").json()["data"]["rights"][1] for each in (who, "E-1001")
    )
    answer = shop.decide(request_id, path=calls.url(kind), by=None, X_CAP_UI_AUTH_TOKEN=token)
    assert told["allowed"] is (answer.status_code == 200) is (who in other["others"])
    assert any(said in reason for reason in told["reasons"]), told


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"unit": TILL, "type": "POINTS-REDEMPTION"}, "person"),
        ({"person": "E-1001", "unit": "x", "type": "POINTS-REDEMPTION"}, "unit"),
        ({"person": "E-1001", "unit": TILL, "type": "POINTS-REDEMPTION", "points": "-1"}, "points"),
        ({"person": "E-1001", "unit": TILL, "type": "POINTS-REDEMPTION", "at": "tomorrow"}, "at"),
    ],
)
def test_a_question_that_cannot_be_answered_names_its_parameter(
    shop: Shop, query: dict[str, object], path: str
) -> None:
    answer = ask(shop, **query)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == path


def test_what_an_auditor_looks_for(shop: Shop) -> None:
    data = shop.http.get(f"{ACCESS}/report", headers=shop.headers()).json()["data"]
    assert {"person": "E-1004", "unitIds": [ZONE]} in data["bothRights"]
    assert data["withoutChecker"] == []


def test_access_needs_a_caller(shop: Shop) -> None:
    assert shop.http.get(ACCESS).status_code == 401


def test_nobody_of_the_maker_s_own_store_is_a_stranger(make_shop: Callable[..., Shop]) -> None:
    """Whichever unit the maker names."""
    colleague = {"person": "E-1002", "right": "CanCheckRequest"}
    shop = make_shop()
    shop.content["policy"] = {"rules": [{"name": "all", "require": [{"otherStore": True}]}]}
    shop.content["grants"] = [
        *({"person": "E-1001", "right": "CanMakeRequest", "unit": unit} for unit in (ZONE, STORE, OTHER_TILL)),
        *(colleague | {"unit": unit} for unit in (STORE, ZONE, OTHER_ZONE)),
        {"person": "E-1003", "right": "CanCheckRequest"},
    ]
    shop.apply()
    for where in ({"tillId": str(TILL)}, {"tillId": str(OTHER_TILL)}, {"zoneId": str(ZONE)}):
        request_id = shop.create(shop.body() | {"entityInfo": where})["requestId"]
        assert_refused(shop.decide(request_id), 403, 2001, "of another store")
        assert shop.decide(request_id, by=SECOND).status_code == 200
