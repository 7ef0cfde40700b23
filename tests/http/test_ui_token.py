"""POST /counterfoil/v1/ui-token."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from counterfoil.application.throttle import FREE_FAILURES
from tests.http.conftest import MAKER_NAME, ORG_ID, PASSWORD, Service

PATH = "/counterfoil/v1/ui-token"


def ask(service: Service, **changes: Any) -> httpx.Response:
    body = {"orgId": ORG_ID, "userName": MAKER_NAME, "password": PASSWORD} | changes
    return service.client.post(PATH, json={name: value for name, value in body.items() if value is not None})


@pytest.mark.parametrize("changes", [{}, {"orgId": str(ORG_ID)}, {"userName": MAKER_NAME.upper()}, {"more": 1}])
def test_a_token_for_a_day(service: Service, changes: dict[str, Any]) -> None:
    answer = ask(service, **changes)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["data", "errors"]
    assert answer.json()["errors"] is None
    assert answer.json()["data"]["ttlSeconds"] == 86400
    assert service.create(answer.json()["data"]["token"]).status_code == 200


@pytest.mark.parametrize(
    "changes", [{"password": "wrong"}, {"userName": "nobody@tipent.com"}, {"orgId": 1}, {"orgId": 2**63 - 1}]
)
def test_whatever_is_wrong_the_answer_is_the_same(service: Service, changes: dict[str, Any]) -> None:
    answer = ask(service, **changes)
    assert answer.status_code == 401
    assert answer.json()["errors"] == [
        {"status": False, "code": 2013, "message": "the user name or the password is wrong", "path": None}
    ]
    assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE app_user SET active = false",
        "UPDATE app_user SET password_hash = NULL",
        "UPDATE person SET active = false",
    ],
)
def test_who_may_not_sign_in_cannot(service: Service, change: str) -> None:
    assert ask(service).status_code == 200
    service.administer(change)
    assert ask(service).status_code == 401


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"orgId": None}, "orgId"),
        ({"orgId": True}, "orgId"),
        ({"userName": None}, "userName"),
        ({"password": None}, "password"),
        ({"orgId": 0}, "orgId"),
        ({"orgId": "x"}, "orgId"),
        ({"orgId": 1.5}, "orgId"),
        ({"orgId": "9" * 19}, "orgId"),
        ({"orgId": 2**64}, "orgId"),
        ({"userName": ""}, "userName"),
        ({"userName": 5}, "userName"),
        ({"password": "x" * 2000}, "password"),
        ({"password": ["x"]}, "password"),
    ],
)
def test_a_wrong_field_is_named(service: Service, changes: dict[str, Any], path: str) -> None:
    answer = ask(service, **changes)
    assert answer.status_code == 400, answer.text
    error = answer.json()["errors"][0]
    assert (error["code"], error["path"]) == (2008, path)
    assert error["message"].startswith(f"{path} must be ")
    assert "Expected" not in error["message"], "these are not our words"


def test_a_long_body_is_not_parsed(service: Service) -> None:
    answer = service.client.post(PATH, content=b"[" * 9000)
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["code"] == 2904
    assert "8192 bytes" in answer.json()["errors"][0]["message"]
    assert ask(service, more="x" * 7000).status_code == 200


@pytest.mark.usefixtures("long_delays")
def test_guessing_gets_slow_for_the_guesser(service: Service) -> None:
    for number in range(FREE_FAILURES):
        assert ask(service, password=f"guess {number}").status_code == 401
    assert ask(service, password="another").status_code == 429
    assert ask(service, userName="checker@tipent.com").status_code == 200


def test_a_right_password_passes_though_others_guess(service: Service) -> None:
    assert ask(service).status_code == 200
    for number in range(FREE_FAILURES + 1):
        ask(service, password=f"guess {number}")
    assert ask(service).status_code == 200
