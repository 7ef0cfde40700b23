"""Renders the facts of an execution as the called API's own answer, for every request type (dossier §2.8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Final

from counterfoil.domain.intouch_answers import (
    AWARDED,
    CHANGED,
    DUPLICATE_REFERENCE,
    ITEM_MESSAGES,
    UNAUTHORIZED,
    Outcome,
    redeem_body,
    redeem_headers,
)
from counterfoil.domain.payload_types import GOODWILL_POINTS, POINTS_REDEMPTION, TYPES

WRONG_PROGRAMME: Final = 1101
NO_SUCH_MEMBER: Final = 8015
NOT_SERVED: Final = 2906

MESSAGES: Final[Mapping[int, str]] = {
    UNAUTHORIZED: "Unauthorized",
    DUPLICATE_REFERENCE: ITEM_MESSAGES[DUPLICATE_REFERENCE],
    WRONG_PROGRAMME: "invalid programId passed",
    NO_SUCH_MEMBER: "Customer not found",
    NOT_SERVED: "the built-in ledger cannot execute this type: route the payload's host to an external target",
}
_STATUS: Final[Mapping[int, int]] = {UNAUTHORIZED: 401, NOT_SERVED: 404, CHANGED: 200, AWARDED: 201}
# Where the answers of the original tell the path as a template, ours do too.
_URI_PATHS: Final[Mapping[str, str]] = {
    "CUSTOMER-STATUS-CHANGE": "/v2/customers/{id}/status",
    "GOODWILL-POINTS": "/internal/goodwill",
}


def status(request_type: str, outcome: Outcome) -> int:
    """The HTTP status of the executed call."""
    if request_type == POINTS_REDEMPTION:
        return 401 if outcome.code == UNAUTHORIZED else 200
    return _STATUS.get(outcome.code, 400)


def body(request_type: str, outcome: Outcome) -> dict[str, Any]:
    """The body of the answer to the executed call."""
    if request_type == POINTS_REDEMPTION:
        return redeem_body(outcome)
    if outcome.code == AWARDED:
        return {"createdId": outcome.created_id, "warnings": []}
    if outcome.code == CHANGED:
        return {"warnings": []}
    return {"warnings": [], "errors": [{"status": False, "code": outcome.code, "message": MESSAGES[outcome.code]}]}


def headers(
    request_type: str, org_id: int, outcome: Outcome, at: datetime, content_length: int
) -> dict[str, list[str]]:
    """The header map of `IntouchAPITask_Output`: the sample's names in its order, with our true values."""
    if request_type == POINTS_REDEMPTION:
        return redeem_headers(org_id, outcome, at, content_length)
    good = outcome.succeeded
    is_goodwill = request_type == GOODWILL_POINTS
    counted = {
        "uri_path": [_URI_PATHS.get(request_type, TYPES[request_type].path)],
        "org_id": [str(org_id)],
        # The goodwill call of the original counts nothing where it succeeds.
        "status_code": [("" if is_goodwill else "200") if good else str(outcome.code)],
        "success": ["1" if good and not is_goodwill else "0"],
        "fail": ["0" if good else "1"],
        "X-CAP-REQUEST-ID": [outcome.correlation_id],
        "till": [outcome.till],
        "X-Cap-RequestID": [outcome.correlation_id],
    }
    date = {"Date": [format_datetime(at, usegmt=True)]}
    content_type = {"Content-Type": ["application/json; charset=UTF-8"]}
    length = {"Content-Length": [str(content_length)]}
    application = {"X-Application-Context": ["counterfoil"]}
    host = {"Host": [outcome.served_by]}
    if is_goodwill:
        last = {"Connection": ["close"], "Server": ["counterfoil"]}
        return date | application | content_type | host | counted | length | last
    connection = {"Connection": ["keep-alive"]}
    return (
        date | content_type | length | connection | application | host | counted | {"X-Frame-Options": ["SAMEORIGIN"]}
    )
