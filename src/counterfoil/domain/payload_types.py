"""The six request types of the contract: where each call goes, and what its payload asks for (dossier §2.2-2.7)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain.payloads import (
    ID_MAX,
    TASK,
    Redemption,
    object_at,
    points_from_wire,
    read_call,
    read_redemption,
    text_at,
)
from counterfoil.domain.refusals import BadEarningEntity, BadGoodwillPoints, InvalidPayload, TypeNotSupported

POINTS_REDEMPTION: Final = "POINTS-REDEMPTION"
GOODWILL_POINTS: Final = "GOODWILL-POINTS"
EARN_BADGE: Final = "EARN-BADGE"
ISSUE_BADGE: Final = "ISSUE-BADGE"
CUSTOMER_STATUS_CHANGE: Final = "CUSTOMER-STATUS-CHANGE"
RETRO_TRANSACTION: Final = "RETRO-TRANSACTION"
# What the built-in ledger can carry out itself; the other types need an external host.
ON_THE_LEDGER: Final = frozenset({POINTS_REDEMPTION, GOODWILL_POINTS, CUSTOMER_STATUS_CHANGE})
WITH_POINTS: Final = frozenset({POINTS_REDEMPTION, GOODWILL_POINTS})

MEMBER_ID: Final = "id"  # the kind of identifier that is the member's own number
STATUS_IDENTIFIERS: Final[Mapping[str, str]] = {
    "mobile": "mobile",
    "email": "email",
    "externalId": "external_id",
    "cardnumber": "card_number",
    "cardExternalId": "card_external_id",
    "wechat": "wechat",
    "fbid": "fbid",
    "martjackId": "martjack_id",
}
REFERENCE_MAX: Final = 255
LABEL_MAX: Final = 100
IDENTIFIER_MAX: Final = 200
_ID = re.compile(r"[0-9]{1,19}", re.ASCII)
_BODY: Final = f"{TASK}.body"


class Goodwill(Struct, frozen=True):
    """Points to be given to a member. In thousandths, above 0."""

    points: int
    identifier_kind: str
    identifier_value: str
    external_reference: str
    reason: str
    programme_id: int


class Badge(Struct, frozen=True):
    """A badge to be earned by a member, or issued to several: then these are in `members`."""

    identifier_kind: str
    identifier_value: str
    external_reference: str
    badge_meta_id: str
    members: tuple[int, ...] = ()
    points: None = None


class StatusChange(Struct, frozen=True):
    """A new status label of a member."""

    identifier_kind: str
    identifier_value: str
    label: str
    reason: str
    external_reference: None = None
    points: None = None


class RetroTransaction(Struct, frozen=True):
    """A bill that shall count for a member afterwards."""

    identifier_kind: str
    identifier_value: str
    external_reference: str
    points: None = None


Asked: TypeAlias = Redemption | Goodwill | Badge | StatusChange | RetroTransaction
Content: TypeAlias = Mapping[str, Any]


class RequestType(Struct, frozen=True):
    """How the call of a type looks; `read` gives what it asks for and the form in which it is kept."""

    path: str
    methods: tuple[str, ...]
    read: Callable[[Content], tuple[Asked, Content]]


def request_type(segment: str) -> str:
    """The request type of a URL segment in any case; raises TypeNotSupported."""
    name = segment.upper()
    if name in TYPES:
        return name
    raise TypeNotSupported(f"the request type is not known: use one of {', '.join(TYPES)}")


def known_type(name: str) -> str:
    """A request type to filter by, in any case, also as webhooks spell it; raises TypeNotSupported."""
    found = name.upper().replace("_", "-")
    if found in TYPES:
        return found
    raise TypeNotSupported(f"the request type is not known: use one of {', '.join(TYPES)}", "requestType")


def read_payload(kind: str, envelope: Mapping[str, Any]) -> tuple[Asked, Content]:
    """What the envelope of a create request asks for, and its call in the form in which it is kept."""
    wanted = TYPES[kind]
    return wanted.read(read_call(kind, wanted.path, wanted.methods, envelope))


def read_stored(kind: str, payload: bytes) -> Asked:
    """What a stored payload asks for: the same reader, over the form that it kept."""
    return TYPES[kind].read(json.loads(payload, parse_float=Decimal))[0]


def members_of(asked: Asked) -> tuple[int, ...]:
    """The members that a request for several is about; none where it names one member, as most do."""
    return asked.members if isinstance(asked, Badge) else ()


# ------------------------------------------------------------ one reader for each type


def _redemption(call: Content) -> tuple[Asked, Content]:
    return read_redemption(call["body"]), call


def _goodwill(call: Content) -> tuple[Asked, Content]:
    body = call["body"]
    for field, wanted in (("baseType", "POINTS"), ("earningEntityType", "CUSTOMER")):
        if _mandatory(body, field).upper() != wanted:
            raise InvalidPayload(f"{_BODY}.{field} must be {wanted}", f"{_BODY}.{field}")
    try:
        member_id = _id(body, "earningEntityId")
    except InvalidPayload as wrong:
        raise BadEarningEntity(wrong.message, wrong.path) from None
    try:
        points = points_from_wire(body.get("points"), f"{_BODY}.points")
    except InvalidPayload as wrong:
        raise BadGoodwillPoints(wrong.message, wrong.path) from None
    _id(body, "awardingTillId")
    _mandatory(body, "source")
    reference = _mandatory(body, "referenceId", maximum=REFERENCE_MAX)
    asked = Goodwill(
        points, MEMBER_ID, str(member_id), reference, _mandatory(body, "reason"), _id(body, "programId")
    )  # fmt: skip
    return asked, call


def _earn_badge(call: Content) -> tuple[Asked, Content]:
    member_id = _id(call["body"], "customerId")
    return _badge(call, MEMBER_ID, str(member_id)), _with_text_request_id(call)


def _issue_badge(call: Content) -> tuple[Asked, Content]:
    """One customer as a number is kept as an array (dossier §5 no. 11)."""
    body = call["body"]
    sent = body.get("customers")
    customers = sent if isinstance(sent, list) else [sent]
    if not customers:
        raise InvalidPayload(f"{_BODY}.customers must hold at least one customer", f"{_BODY}.customers")
    found = {_id_of(each, f"{_BODY}.customers[{number}]") for number, each in enumerate(customers)}
    one = len(found) == 1
    asked = _badge(call, MEMBER_ID if one else "", str(min(found)) if one else "")
    asked = asked if one else replace(asked, members=tuple(sorted(found)))
    return asked, _with_text_request_id({**call, "body": {**body, "customers": customers}})


def _badge(call: Content, identifier_kind: str, identifier_value: str) -> Badge:
    body = call["body"]
    where = f"{_BODY}.triggeredBy"
    trigger = object_at(body.get("triggeredBy"), where)
    for field in ("ownerType", "referenceId"):
        _mandatory(trigger, field, where)
    reference = _mandatory(body, "requestId", maximum=REFERENCE_MAX)
    return Badge(identifier_kind, identifier_value, reference, _mandatory(body, "badgeMetaId"))


def _with_text_request_id(call: Content) -> Content:
    """The page calls requestId a number and shows a text: it is kept as text (dossier §5 no. 36)."""
    body = call["body"]
    return {**call, "body": {**body, "requestId": text_at(body["requestId"], f"{_BODY}.requestId")}}


def _status_change(call: Content) -> tuple[Asked, Content]:
    """The page says POST and shows PUT: both are taken, PUT is kept (dossier §5 no. 10)."""
    where = f"{TASK}.queryParams"
    query = object_at(call.get("queryParams"), where)
    _mandatory(query, "source", where)
    name = _mandatory(query, "identifierName", where)
    kind = next((kind for known, kind in STATUS_IDENTIFIERS.items() if known.lower() == name.lower()), None)
    if kind is None:
        known = ", ".join(STATUS_IDENTIFIERS)
        raise InvalidPayload(f"{where}.identifierName must be one of {known}", f"{where}.identifierName")
    body = call["body"]
    asked = StatusChange(
        kind,
        _mandatory(query, "identifierValue", where, maximum=IDENTIFIER_MAX),
        _mandatory(body, "label", maximum=LABEL_MAX),
        text_at(body.get("reason"), f"{_BODY}.reason"),
    )
    return asked, {**call, "method": "PUT"}


def _retro_transaction(call: Content) -> tuple[Asked, Content]:
    body = call["body"]
    for field, wanted in (("oldType", "NOT_INTERESTED"), ("newType", "REGULAR")):
        if _mandatory(body, field).upper() != wanted:
            raise InvalidPayload(f"{_BODY}.{field} must be {wanted}", f"{_BODY}.{field}")
    for field in ("extendedFields", "customFields"):
        if body.get(field) is not None:
            object_at(body[field], f"{_BODY}.{field}")
    text_at(body.get("notes"), f"{_BODY}.notes")
    member_id, bill_id = _id(body, "customerId"), _id(body, "transactionId")
    return RetroTransaction(MEMBER_ID, str(member_id), str(bill_id)), call


def _mandatory(body: Mapping[str, Any], field: str, where: str = _BODY, *, maximum: int = 1000) -> str:
    """A text that must be there and not be empty."""
    path = f"{where}.{field}"
    text = text_at(body.get(field), path, maximum=maximum).strip()
    if not text:
        raise InvalidPayload(f"{path} is mandatory: send a text that is not empty", path)
    return text


def _id(body: Mapping[str, Any], field: str) -> int:
    if body.get(field) in (None, ""):
        raise InvalidPayload(f"{_BODY}.{field} is mandatory: send a number above 0", f"{_BODY}.{field}")
    return _id_of(body[field], f"{_BODY}.{field}")


def _id_of(value: object, path: str) -> int:
    """A number above 0 of at most 19 digits, as a number or a text."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not _ID.fullmatch(text) or not 0 < int(text) <= ID_MAX:
        raise InvalidPayload(f"{path} must be a whole number above 0, of at most 19 digits", path)
    return int(text)


TYPES: Final[Mapping[str, RequestType]] = {
    POINTS_REDEMPTION: RequestType("/v1.1/points/redeem", ("POST",), _redemption),
    GOODWILL_POINTS: RequestType("/internal/goodwill/", ("POST",), _goodwill),
    EARN_BADGE: RequestType("/api_gateway/v1/badges/customer/earn", ("POST",), _earn_badge),
    ISSUE_BADGE: RequestType("/api_gateway/v1/badges/badgeMeta/customer/issueBulk", ("POST",), _issue_badge),
    CUSTOMER_STATUS_CHANGE: RequestType("/v2/customers/lookup/status", ("POST", "PUT"), _status_change),
    RETRO_TRANSACTION: RequestType("/v2/transactions/retro", ("PUT",), _retro_transaction),
}
