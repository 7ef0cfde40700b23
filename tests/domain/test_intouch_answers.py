"""The points API's own answers: keys in the samples' order, values of the samples' types."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.domain import intouch_answers
from counterfoil.domain.intouch_answers import Outcome, number, plain, redeem_body, redeem_headers, summary_id

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

REDEEMED = Outcome(
    code=800,
    points=1_000,
    till="ind.1",
    correlation_id="73af50154417526c8efea43cba314c0d",
    served_by="host-1",
    mobile="919777788221",
    email="tomswayer@gmail.com",
    external_id="123456",
    member_id=564670755,
    redemption_id="7t4y2a",
    balance=1_990_000,
    currency_value=Decimal(1),
    transaction_number="bilnum100000",
)
DUPLICATE = Outcome(
    code=744,
    points=100_000,
    till="ind.1",
    correlation_id="73af50154417526c8efea43cba314c0d",
    served_by="host-1",
    mobile="919887766554",
    email="tomswayer@mail.com",
    external_id="XYPZ0063",
    member_id=382332518,
)
UNKNOWN = Outcome(
    code=816, points=10_000, till="ind.1", correlation_id="0" * 32, served_by="host-1", mobile="91789789781"
)

# The samples, key by key; where a value is ours to make (the ids of the effect, the code of a validation
# that this ledger does not do), the test puts it in.
SAMPLE_800: dict[str, Any] = {
    "response": {
        "status": {"success": "true", "code": 200, "message": "Success"},
        "responses": {
            "points": {
                "mobile": "919777788221",
                "email": "tomswayer@gmail.com",
                "external_id": "123456",
                "user_id": "564670755",
                "redemption_id": "7t4y2a",
                "points_redeemed": "1",
                "redemption_purpose": "",
                "redeemed_value": 1,
                "redeemed_local_value": 1,
                "balance": 1990,
                "side_effects": {
                    "effect": [
                        {
                            "id": summary_id("7t4y2a"),
                            "case_value": "false",
                            "num_points": 1,
                            "currency_value": 1,
                            "validation_code": "",
                            "points_redemption_summary_id": str(summary_id("7t4y2a")),
                            "redeemed_on_bill_number": "bilnum100000",
                            "redeemed_on_bill_id": -1,
                            "type": "points",
                        }
                    ]
                },
                "item_status": {"success": "true", "code": 800, "message": "Points Redeemed"},
            }
        },
    }
}
ALL_FAILED = {"success": "false", "code": 500, "message": "All requests have failed due to errors"}
SAMPLE_744 = {
    "response": {
        "status": ALL_FAILED,
        "responses": {
            "points": {
                "mobile": "919887766554",
                "email": "tomswayer@mail.com",
                "external_id": "XYPZ0063",
                "user_id": "382332518",
                "points_redeemed": "100",
                "redemption_purpose": "",
                "redeemed_value": 0,
                "side_effects": {"effect": []},
                "item_status": {
                    "success": "false",
                    "code": 744,
                    "message": "Reference number already exists",
                },
            }
        },
    }
}
SAMPLE_816 = {
    "response": {
        "status": ALL_FAILED,
        "responses": {
            "points": {
                "mobile": "91789789781",
                "email": "",
                "external_id": "",
                "user_id": None,
                "points_redeemed": "10",
                "redeemed_value": 0,
                "side_effects": {"effect": []},
                "item_status": {
                    "success": "false",
                    "code": 816,
                    "message": "Customer not found for organization",
                },
            }
        },
    }
}


@pytest.mark.parametrize(
    ("outcome", "sample"), [(REDEEMED, SAMPLE_800), (DUPLICATE, SAMPLE_744), (UNKNOWN, SAMPLE_816)]
)
def test_an_answer_is_the_sample_key_by_key(outcome: Outcome, sample: dict[str, Any]) -> None:
    # As text: so that the order of the keys and the types of the values count.
    assert json.dumps(redeem_body(outcome)) == json.dumps(sample)


def test_too_few_points_has_the_shape_of_a_known_member() -> None:
    body = redeem_body(
        Outcome(code=818, points=500, till="t", correlation_id="c", served_by="s", member_id=7, mobile="91")
    )
    item = body["response"]["responses"]["points"]
    assert list(item) == list(SAMPLE_744["response"]["responses"]["points"])  # type: ignore[index]
    assert item["points_redeemed"] == "0.5"
    assert item["item_status"]["code"] == 818


def test_wrong_till_credentials_have_the_original_s_own_body() -> None:
    outcome = Outcome(code=401, points=1_000, till="", correlation_id="c", served_by="s")
    assert json.dumps(redeem_body(outcome)) == json.dumps(
        {
            "response": {
                "status": {"success": "true", "code": "401", "message": "Unauthorized"},
                "responses": None,
            }
        }
    )


def test_headers_have_the_contract_s_names_in_its_order() -> None:
    at = datetime(2023, 10, 4, 11, 19, 58, tzinfo=UTC)
    assert redeem_headers(51250, DUPLICATE, at, 640) == {
        "Date": ["Wed, 04 Oct 2023 11:19:58 GMT"],
        "Content-Type": ["application/json;charset=UTF-8"],
        "Content-Length": ["640"],
        "Connection": ["keep-alive"],
        "X-Application-Context": ["counterfoil"],
        "Host": ["host-1"],
        "uri_path": ["/v1.1/points/redeem"],
        "org_id": ["51250"],
        "status_code": ["744"],
        "success": ["0"],
        "fail": ["1"],
        "X-CAP-REQUEST-ID": ["73af50154417526c8efea43cba314c0d"],
        "till": ["ind.1"],
        "X-Cap-RequestID": ["73af50154417526c8efea43cba314c0d"],
        "X-Frame-Options": ["SAMEORIGIN"],
    }
    assert list(redeem_headers(51250, DUPLICATE, at, 640)) == [
        "Date", "Content-Type", "Content-Length", "Connection", "X-Application-Context", "Host", "uri_path",
        "org_id", "status_code", "success", "fail", "X-CAP-REQUEST-ID", "till", "X-Cap-RequestID",
        "X-Frame-Options",
    ]  # fmt: skip
    good = redeem_headers(51250, REDEEMED, at, 1)
    assert (good["status_code"], good["success"], good["fail"]) == (["200"], ["1"], ["0"])


@pytest.mark.parametrize(
    ("thousandths", "shown"),
    [(0, 0), (1_000, 1), (1_990_000, 1990), (12_500, Decimal("12.5")), (1, Decimal("0.001"))],
)
def test_points_are_exact_numbers(thousandths: int, shown: int | Decimal) -> None:
    assert number(thousandths) == shown
    assert type(number(thousandths)) is type(shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("1", 1), ("0", 0), ("0E-9", 0), ("1E+2", 100), ("2.50", Decimal("2.5")), ("0.0001", Decimal("0.0001"))],
)
def test_money_is_whole_where_it_is_whole(value: str, shown: int | Decimal) -> None:
    assert plain(Decimal(value)) == shown
    assert type(plain(Decimal(value))) is type(shown)


IDS = st.text(ALPHABET, min_size=6, max_size=6)


@given(IDS, IDS)
def test_numeric_ids_are_as_unique_as_their_six_characters(one: str, other: str) -> None:
    assert (summary_id(one) == summary_id(other)) == (one == other)
    assert 0 <= summary_id(one) < 62**6 < 2**53


def test_every_item_code_has_its_message() -> None:
    assert set(intouch_answers.ITEM_MESSAGES) == {800, 744, 816, 818}
