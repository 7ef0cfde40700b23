"""Renders the facts of an execution as the points API's own answer (dossier §2.8, §3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from email.utils import format_datetime
from typing import Any, Final

from msgspec import Struct

from counterfoil.domain.payloads import points_text

REDEEMED: Final = 800
DUPLICATE_REFERENCE: Final = 744
UNKNOWN_MEMBER: Final = 816
TOO_FEW_POINTS: Final = 818
UNAUTHORIZED: Final = 401
# The status of a goodwill or status call that went well: it has no item code of its own.
CHANGED: Final = 200
AWARDED: Final = 201

ITEM_MESSAGES: Final[Mapping[int, str]] = {
    REDEEMED: "Points Redeemed",
    DUPLICATE_REFERENCE: "Reference number already exists",
    UNKNOWN_MEMBER: "Customer not found for organization",
    TOO_FEW_POINTS: "Current points are less than points requested for redemption",
}
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Outcome(Struct, frozen=True):
    """The facts of one execution on the built-in ledger. Points in thousandths.

    `code` is the item code of the points API (800 redeemed; 744, 816, 818 refused), 401, or for the other types
    the status that they succeed with or the code of the error.
    """

    code: int
    points: int
    till: str
    correlation_id: str
    served_by: str
    mobile: str = ""
    email: str = ""
    external_id: str = ""
    member_id: int | None = None
    redemption_id: str | None = None
    balance: int = 0
    currency_value: Decimal = Decimal(0)
    transaction_number: str = ""
    created_id: int | None = None

    @property
    def succeeded(self) -> bool:
        """Whether what was asked for was done."""
        return self.code in (REDEEMED, CHANGED, AWARDED)


class Executed(Struct, frozen=True):
    """What became of a call to an external host. `body` is its answer as JSON text.

    `by` tells what it is known from: the answer itself, a look-up, or the people who settled an incident.
    """

    by: str
    succeeded: bool
    status: int
    headers: Mapping[str, list[str]]
    body: str
    reference: str
    code: int | None = None
    message: str = ""


def number(points: int) -> int | Decimal:
    """Thousandths as an exact JSON number."""
    return Decimal(points_text(points)) if points % 1000 else points // 1000


def plain(value: Decimal) -> int | Decimal:
    """A decimal as an exact JSON number, whole where it is whole."""
    return int(value) if value == value.to_integral_value() else value.normalize()


def summary_id(redemption_id: str) -> int:
    """The numeric id of a redemption: its six characters read in base 62, so as unique as they are."""
    total = 0
    for character in redemption_id:
        total = total * 62 + _BASE62.index(character)
    return total


def redeem_body(outcome: Outcome) -> dict[str, Any]:
    """The body of an answer to /v1.1/points/redeem."""
    if outcome.code == UNAUTHORIZED:
        return unauthorized_body()
    good = outcome.succeeded
    item: dict[str, Any] = {
        "mobile": outcome.mobile,
        "email": outcome.email,
        "external_id": outcome.external_id,
        "user_id": None if outcome.member_id is None else str(outcome.member_id),
    }
    if outcome.redemption_id is not None:
        item["redemption_id"] = outcome.redemption_id
    item["points_redeemed"] = points_text(outcome.points)
    if outcome.member_id is not None:
        item["redemption_purpose"] = ""
    item["redeemed_value"] = plain(outcome.currency_value)
    if good:
        item["redeemed_local_value"] = plain(outcome.currency_value)
        item["balance"] = number(outcome.balance)
    item["side_effects"] = {"effect": [_effect(outcome, outcome.redemption_id)] if outcome.redemption_id else []}
    item["item_status"] = {
        "success": "true" if good else "false",
        "code": outcome.code,
        "message": ITEM_MESSAGES[outcome.code],
    }
    status = (
        {"success": "true", "code": 200, "message": "Success"}
        if good
        else {"success": "false", "code": 500, "message": "All requests have failed due to errors"}
    )
    return {"response": {"status": status, "responses": {"points": item}}}


def _effect(outcome: Outcome, redemption_id: str) -> dict[str, Any]:
    identity = summary_id(redemption_id)
    return {
        "id": identity,
        "case_value": "false",
        "num_points": number(outcome.points),
        "currency_value": plain(outcome.currency_value),
        "validation_code": "",
        "points_redemption_summary_id": str(identity),
        "redeemed_on_bill_number": outcome.transaction_number,
        "redeemed_on_bill_id": -1,
        "type": "points",
    }


def unauthorized_body() -> dict[str, Any]:
    """The v1.1 body for wrong till credentials; success "true" is the original's own quirk (dossier §4)."""
    return {
        "response": {
            "status": {"success": "true", "code": "401", "message": "Unauthorized"},
            "responses": None,
        }
    }


def redeem_headers(org_id: int, outcome: Outcome, at: datetime, content_length: int) -> dict[str, list[str]]:
    """The header map of `IntouchAPITask_Output`: the contract's names with our true values."""
    good = outcome.succeeded
    return {
        "Date": [format_datetime(at, usegmt=True)],
        "Content-Type": ["application/json;charset=UTF-8"],
        "Content-Length": [str(content_length)],
        "Connection": ["keep-alive"],
        "X-Application-Context": ["counterfoil"],
        "Host": [outcome.served_by],
        "uri_path": ["/v1.1/points/redeem"],
        "org_id": [str(org_id)],
        "status_code": ["200" if good else str(outcome.code)],
        "success": ["1" if good else "0"],
        "fail": ["0" if good else "1"],
        "X-CAP-REQUEST-ID": [outcome.correlation_id],
        "till": [outcome.till],
        "X-Cap-RequestID": [outcome.correlation_id],
        "X-Frame-Options": ["SAMEORIGIN"],
    }
