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
    2001: 403, 2002: 400, 2005: 400, 2007: 400, 2008: 400, 2009: 400, 2011: 400, 2012: 400, 2013: 401, 2015: 400,
    2021: 400, 2023: 400, 2901: 409, 2902: 412, 2903: 503, 2904: 413, 2905: 415, 2906: 404, 2907: 429, 2908: 500,
    2909: 405, 8015: 404,
}
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
