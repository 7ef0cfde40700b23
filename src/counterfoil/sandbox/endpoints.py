"""The calls of the contract as the sandbox answers them (dossier §2.3-2.7, §3.1, §3.8).

Any identifier is a member who has the same points at first, but for two kinds: one that begins with "unknown"
is nobody (816, 8015), and a till whose login begins with "denied" is refused (401).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain import intouch_answers
from counterfoil.domain.intouch_answers import Outcome, number, redeem_body, summary_id, unauthorized_body
from counterfoil.domain.payloads import IDENTIFIER_FIELDS, points_from_wire, points_text, read_redemption
from counterfoil.domain.refusals import InvalidPayload
from counterfoil.sandbox.ledger import Effect, Ledger

FIRST_MEMBER: Final = 382_000_000
DUPLICATE: Final[Mapping[str, int]] = {"EARN-BADGE": 809, "ISSUE-BADGE": 809, "RETRO-TRANSACTION": 1627}
_MESSAGES: Final[Mapping[int, str]] = {
    801: "Trying to redeem invalid points",
    809: "Request id already used",
    1627: "Transaction is not of the old type any more",
    8013: "Invalid identifier",
    8015: "Customer not found",
}


class Ask(Struct, frozen=True):
    """One call, read. `refuse_with`: a code to answer with instead of taking effect."""

    query: Mapping[str, str]
    body: Any
    login: str
    at: str
    refuse_with: int = 0


class Said(Struct, frozen=True):
    """What to answer."""

    status: int
    body: Any
    code: int = 200


class Endpoint(Struct, frozen=True):
    """A path and method of the contract. `reference` finds what identifies the call."""

    kind: str
    answer: Callable[[Ledger, Ask], Said]
    reference: Callable[[Any], str] = lambda _body: ""
    family: str = "v2"


def login_of(authorization: str) -> str:
    """The user name in a Basic header, or ""."""
    scheme, _, coded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(coded, validate=True).decode().partition(":")[0]
    except ValueError:
        return ""


def is_denied(login: str) -> bool:
    """Whether this till's credential is refused."""
    return not login or login.startswith("denied")


def v2_error(code: int, status: int = 400) -> Said:
    """A v2 or badge refusal."""
    error = {"status": False, "code": code, "message": _MESSAGES.get(code, "Please try again later")}
    return Said(status, {"data": None, "errors": [error], "warnings": []}, code)


def denied(endpoint: Endpoint) -> Said:
    """The answer to a wrong credential."""
    return Said(401, unauthorized_body(), 401) if endpoint.family == "v1.1" else replace(v2_error(401), status=401)


def _redeem(ledger: Ledger, ask: Ask) -> Said:
    """A redemption; the item's code decides and HTTP stays 200."""
    try:
        asked = read_redemption(ask.body, "")
    except InvalidPayload as refusal:
        return _redeem_refused(801, refusal.message, Outcome(818, 0, ask.login, "", ""))
    reference = asked.external_reference or ""
    member = asked.identifier_value
    outcome = Outcome(
        818, asked.points, ask.login, "", "", transaction_number=asked.transaction_number, member_id=_member_id(member),
        mobile=member if asked.identifier_kind == "mobile" else "",
        email=member if asked.identifier_kind == "email" else "",
        external_id=member if asked.identifier_kind == "external_id" else "",
    )  # fmt: skip
    if ask.refuse_with:
        return _redeem_refused(ask.refuse_with, "Please try again later", outcome)
    if member.startswith("unknown"):
        return Said(200, redeem_body(replace(outcome, code=intouch_answers.UNKNOWN_MEMBER, member_id=None)), 816)
    if ledger.done("POINTS-REDEMPTION", reference):
        return Said(200, redeem_body(replace(outcome, code=intouch_answers.DUPLICATE_REFERENCE)), 744)
    if ledger.balance(member) < asked.points:
        return Said(200, redeem_body(outcome), 818)
    effect = ledger.add(
        "POINTS-REDEMPTION", reference, member, points=asked.points, detail=asked.transaction_number, at=ask.at,
        identifier=asked.identifier_kind,
    )  # fmt: skip
    good = replace(
        outcome, code=intouch_answers.REDEEMED, redemption_id=effect.redemption_id, balance=ledger.balance(member),
        currency_value=Decimal(asked.points) / 1000,
    )  # fmt: skip
    return Said(200, redeem_body(good))


def _redeem_refused(code: int, message: str, outcome: Outcome) -> Said:
    known = intouch_answers.ITEM_MESSAGES.get(code)
    body = redeem_body(outcome)
    body["response"]["responses"]["points"]["item_status"] |= {"code": code, "message": known or message}
    return Said(200, body, code)


def _member_id(member: str) -> int:
    return FIRST_MEMBER + sum(member.encode()) * 31 + len(member)


def _redemptions(ledger: Ledger, ask: Ask) -> Said:
    member = next((ask.query[name] for name in IDENTIFIER_FIELDS if ask.query.get(name)), "")
    if not member or member.startswith("unknown"):
        status = {"success": False, "code": 500, "message": "All requests have failed due to errors"}
        return Said(200, {"response": {"status": status, "customer": {}}}, 816)
    wanted = ask.query.get("external_reference_number")
    found = [
        effect
        for effect in reversed(ledger.by_member.get(member, ()))
        if effect.kind == "POINTS-REDEMPTION" and wanted in (None, "", effect.reference)
    ]
    limit = int(ask.query["points_limit"]) if ask.query.get("points_limit", "").isdigit() else 10
    start = int(ask.query["points_offset"]) if ask.query.get("points_offset", "").isdigit() else 0
    rows = [_row(effect) for effect in found[start : start + min(limit, 500)]]
    customer: dict[str, Any] = {
        "mobile": member, "email": "", "external_id": None, "firstname": "", "lastname": "", "user_groups2": [],
        "rows": len(found), "coupons_count": "0", "points_count": len(rows), "points_start_id": start + 1,
        "redemptions": {"points": {"point": rows}},
    }  # fmt: skip
    return Said(
        200, {"response": {"status": {"success": True, "code": 200, "message": "Success"}, "customer": customer}}
    )


def _row(effect: Effect) -> dict[str, Any]:
    return {
        "id": summary_id(effect.redemption_id),
        "program_id": 1,
        "points_redeemed": number(effect.points),
        "transaction_number": effect.detail,
        "bill_id": "-1",
        "validation_code": "",
        "redeemed_time": effect.at,
        "redemption_purpose": "",
        "notes": "",
        "external_reference_number": effect.reference,
        "redemption_id": effect.redemption_id,
        "custom_fields": {"field": []},
        "reversals": [],
    }


def _goodwill(ledger: Ledger, ask: Ask) -> Said:
    """Grants points. The reference is only reserved for duplicates: the same call twice grants twice."""
    if ask.refuse_with:
        return v2_error(ask.refuse_with)
    try:
        points = points_from_wire(_field(ask.body, "points"), "points")
    except InvalidPayload:
        return v2_error(801)
    effect = ledger.add(
        "GOODWILL-POINTS", str(_field(ask.body, "referenceId") or ""), str(_field(ask.body, "earningEntityId")),
        points=points, at=ask.at,
    )  # fmt: skip
    return Said(201, {"createdId": effect.number, "warnings": []})


def _field(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, dict) else None


def _reference(name: str) -> Callable[[Any], str]:
    return lambda body: "" if _field(body, name) is None else str(_field(body, name))


def _redeem_reference(body: Any) -> str:
    try:
        return read_redemption(body, "").external_reference or ""
    except InvalidPayload:
        return ""


def _badge(kind: str) -> Callable[[Ledger, Ask], Said]:
    def answer(ledger: Ledger, ask: Ask) -> Said:
        reference = _reference("requestId")(ask.body)
        if ask.refuse_with or ledger.done(kind, reference):
            return v2_error(ask.refuse_with or 809)
        meta = _field(ask.body, "badgeMetaId")
        wanted = _field(ask.body, "customers" if kind == "ISSUE-BADGE" else "customerId")
        members = wanted if isinstance(wanted, list) else [wanted]
        effect = ledger.add(kind, reference, ",".join(map(str, members)), detail=str(meta), at=ask.at)
        badge = f"{effect.number:024x}"
        if kind == "EARN-BADGE":
            data = {"badgeMetaId": meta, "customerId": members[0], "earnedBadgeId": badge, "expiresOn": 4102444800.0}
        else:
            data = {
                "badgeMetaId": meta, "triggeredBy": _field(ask.body, "triggeredBy"), "expiresOn": 4102444800.0,
                "issuedBadges": [{"customerId": member, "issuedId": badge} for member in members],
                "requestId": reference,
            }  # fmt: skip
        return Said(200, {"data": data, "errors": [], "warnings": []})

    return answer


def _set_status(ledger: Ledger, ask: Ask) -> Said:
    member = ask.query.get("identifierValue", "")
    if ask.refuse_with:
        return v2_error(ask.refuse_with)
    if not member:
        return v2_error(8013)
    if member.startswith("unknown"):
        return v2_error(8015)
    label = str(_field(ask.body, "label"))
    if ledger.labels.get(member) != label:  # setting what is set already changes nothing
        ledger.add("CUSTOMER-STATUS-CHANGE", "", member, detail=label, at=ask.at)
    return Said(200, {"createdId": _member_id(member), "warnings": []})


def _status(ledger: Ledger, ask: Ask) -> Said:
    member = ask.query.get("identifierValue", "")
    if not member or member.startswith("unknown"):
        return v2_error(8015)
    return Said(200, {"label": ledger.labels.get(member, "Active"), "warnings": [], "errors": []})


def _retro(ledger: Ledger, ask: Ask) -> Said:
    reference = _reference("transactionId")(ask.body)
    if ask.refuse_with or ledger.done("RETRO-TRANSACTION", reference):
        return v2_error(ask.refuse_with or 1627)
    effect = ledger.add(
        "RETRO-TRANSACTION", reference, str(_field(ask.body, "customerId")),
        detail=json.dumps(_field(ask.body, "newType")), at=ask.at,
    )  # fmt: skip
    return Said(201, {"createdId": effect.number, "warnings": [], "errors": []})


def _balance(ledger: Ledger, ask: Ask) -> Said:
    member = ask.query.get("identifierValue", "")
    points = Decimal(points_text(ledger.balance(member)))
    return Said(200, {"identifierValue": member, "mainPoints": points, "warnings": []})


_STATUS: Final = Endpoint("CUSTOMER-STATUS-CHANGE", _set_status)
_GOODWILL: Final = Endpoint("GOODWILL-POINTS", _goodwill, _reference("referenceId"))
ENDPOINTS: Final[Mapping[tuple[str, str], Endpoint]] = {
    ("POST", "/v1.1/points/redeem"): Endpoint("POINTS-REDEMPTION", _redeem, _redeem_reference, "v1.1"),
    ("GET", "/v1.1/customer/redemptions"): Endpoint("READ", _redemptions, family="v1.1"),
    ("POST", "/internal/goodwill"): _GOODWILL,
    ("POST", "/internal/goodwill/"): _GOODWILL,
    ("POST", "/api_gateway/v1/badges/customer/earn"): Endpoint(
        "EARN-BADGE", _badge("EARN-BADGE"), _reference("requestId")
    ),
    ("POST", "/api_gateway/v1/badges/badgeMeta/customer/issueBulk"): Endpoint(
        "ISSUE-BADGE", _badge("ISSUE-BADGE"), _reference("requestId")
    ),
    ("PUT", "/v2/customers/lookup/status"): _STATUS,
    ("POST", "/v2/customers/lookup/status"): _STATUS,
    ("GET", "/v2/customers/lookup/status"): Endpoint("READ", _status),
    ("GET", "/v2/customers/lookup/points/balance"): Endpoint("READ", _balance),
    ("PUT", "/v2/transactions/retro"): Endpoint("RETRO-TRANSACTION", _retro, _reference("transactionId")),
}
