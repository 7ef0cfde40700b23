"""One refusal, one status, one shape of body per family of APIs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from openapi_schema_validator import OAS31Validator

from counterfoil.domain import refusals
from counterfoil.domain.refusals import Refusal
from counterfoil.http.problems import SCHEMAS, STATUS, render, status_of
from counterfoil.http.routing import Answer, Family

FAMILIES: tuple[Family, ...] = get_args(Family)
# Dossier §2.10 and design.md §6.
EXPECTED = {
    2001: 403, 2002: 400, 2005: 400, 2007: 400, 2008: 400, 2009: 400, 2011: 400, 2012: 400, 2013: 401, 2014: 400,
    2015: 400, 2021: 400, 2022: 400, 2023: 400,
    2901: 409, 2902: 412, 2903: 503, 2904: 413, 2905: 415, 2906: 404, 2907: 429, 2908: 500,
    2909: 405, 2910: 423, 3002: 400, 8015: 404, 1061: 400, 4000: 403, 320001: 401,
}  # fmt: skip


def every_refusal(root: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for kind in root.__subclasses__():
        yield kind
        yield from every_refusal(kind)


ALL = sorted(every_refusal(), key=lambda kind: kind.__name__)


def body_of(answer: Answer) -> Any:
    return json.loads(answer.body)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_refusal_has_its_status(kind: type[Refusal]) -> None:
    of_their_own = {refusals.RequestNotFound: 404, refusals.TokenExpired: 498}
    assert status_of(kind) == of_their_own.get(kind, EXPECTED[kind.code])


def test_the_table_has_no_dead_line() -> None:
    assert set(STATUS) <= set(ALL)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_body_is_the_described_one(kind: type[Refusal], family: Family) -> None:
    answer = render(kind("send it again", "payload.x"), family)
    OAS31Validator(SCHEMAS[family]).validate(body_of(answer))
    assert answer.content_type == b"application/json"


def test_the_contracts_body_byte_for_byte() -> None:
    answer = render(refusals.InvalidPayload("must be above 0", "a.b"), "contract")
    assert answer.body == (
        b'{"data":null,"errors":[{"status":false,"code":2008,"message":"a.b: must be above 0"}],"warnings":[]}'
    )


def test_a_path_that_the_message_names_is_not_repeated() -> None:
    assert body_of(render(refusals.InvalidPayload("a.b must be above 0", "a.b"), "contract"))["errors"][0][
        "message"
    ] == ("a.b must be above 0")


def test_our_own_api_has_the_path_as_a_key() -> None:
    assert body_of(render(refusals.InvalidPayload("wrong", "orgId"), "own"))["errors"] == [
        {"status": False, "code": 2008, "message": "orgId: wrong", "path": "orgId"}
    ]
    assert body_of(render(refusals.UnknownPath("nothing here"), "own"))["errors"][0]["path"] is None


def test_the_quirk_of_v1() -> None:
    """Samples auth-errors/v11-401-invalid-token.json: success is "true" and code a text."""
    assert body_of(render(refusals.IdentityNotVerified("wrong"), "v1")) == {
        "response": {"status": {"success": "true", "code": "401", "message": "Unauthorized"}, "responses": None}
    }
    assert body_of(render(refusals.InvalidPayload("wrong"), "v1")) == {
        "response": {"status": {"success": "false", "code": 2008, "message": "wrong"}}
    }


def test_the_end_of_a_token_in_v1() -> None:
    """Sample auth-errors/v11-498-expired.json."""
    answer = render(refusals.TokenExpired("Token expired at 2019-12-02T12:31:15.000+0530"), "v1")
    assert answer.status == 498
    status = {"success": "true", "code": "498", "message": "Token expired at 2019-12-02T12:31:15.000+0530"}
    assert body_of(answer) == {"response": {"status": status, "responses": None}}


def test_the_token_call_has_an_envelope_of_its_own() -> None:
    """Sample oauth-token/response-invalid.json: a code and a message, nothing else."""
    answer = render(refusals.WrongClient("Invalid client key and secret"), "oauth")
    assert answer.status == 401
    assert answer.body == b'{"data":null,"errors":[{"code":320001,"message":"Invalid client key and secret"}]}'


@pytest.mark.parametrize("family", ["v1", "v2"])
def test_the_points_apis_say_4000_for_a_missing_right(family: Family) -> None:
    answer = render(refusals.NotPermitted("ask for the right"), family)
    assert answer.status == 403
    assert b'"code":4000' in answer.body
    assert b"Not authorized. Access is denied! ask for the right" in answer.body


@pytest.mark.parametrize(
    ("refusal", "seconds"),
    [
        (refusals.Busy("later", retry_after_seconds=7), "7"),
        (refusals.Busy("later"), "1"),
        (refusals.Throttled("later", retry_after_seconds=60), "60"),
    ],
)
def test_who_should_come_again_is_told_when(refusal: Refusal, seconds: str) -> None:
    assert render(refusal, "contract").headers == {"Retry-After": seconds}


def test_nobody_else_is_told_to_come_again() -> None:
    assert render(refusals.InvalidPayload("wrong"), "contract").headers == {}
