"""The contract's bodies exactly as it spells them, and JSON read without trust."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, Raw, UnsetType

from counterfoil.domain import execution_answers
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import InvalidPayload
from counterfoil.domain.requests import WIRE_STATE, Request

DEPTH_MAX: Final = 64
NUMBER_LENGTH_MAX: Final = 400
MAGNITUDE_MAX: Final = 300  # digits before the point, or zeros after it: what a reader's double can hold
encode = msgspec.json.Encoder(decimal_format="number").encode
# For digests that must not depend on the order in which a client writes keys.
encode_sorted = msgspec.json.Encoder(decimal_format="number", order="sorted").encode


class AdminTaskPayload(msgspec.Struct):
    """A checker's decision as it was sent."""

    actionDecision: str
    actionMessage: str


class IntouchOutput(msgspec.Struct):
    """The answer of the points API to the executed call."""

    status: int
    headers: dict[str, list[str]]
    body: Raw


class Details(
    msgspec.Struct,
    omit_defaults=True,
    rename={
        "payload": "IntouchAPITask-Payload",
        "decision": "AdminTask-Payload",
        "maker_access": "ValidateMakerAccess_Output",
        "decision_output": "AdminTask_Output",
        "payload_valid": "ValidatePayload_Output",
        "intouch_output": "IntouchAPITask_Output",
        "checker_access": "ValidateCheckerAccess_Output",
    },
):
    """What happened to a request step by step, in the samples' key order."""

    payload: Raw
    decision: AdminTaskPayload | UnsetType = UNSET
    maker_access: bool | UnsetType = UNSET
    decision_output: str | UnsetType = UNSET
    payload_valid: bool | UnsetType = UNSET
    intouch_output: IntouchOutput | UnsetType = UNSET
    checker_access: bool | UnsetType = UNSET


class RequestData(msgspec.Struct):
    """One request of the contract."""

    requestId: str
    userId: int
    userName: str
    requestType: str
    state: str
    startTime: str
    endTime: str | None
    details: Details


class RequestAnswer(msgspec.Struct):
    """The envelope around one request."""

    data: RequestData


class Pagination(msgspec.Struct):
    """The pagination block; `number` is the zero-based page."""

    totalElements: int
    totalPages: int
    numberOfElements: int
    number: int


class RequestList(msgspec.Struct):
    """The envelope around a page of requests."""

    data: list[RequestData]
    pagination: Pagination


def iso(at: datetime) -> str:
    """A time in UTC, to the microsecond, as our own API shows times."""
    return at.astimezone(UTC).isoformat()


def iso_or_none(at: datetime | None) -> str | None:
    """The same for what may not have happened."""
    return None if at is None else iso(at)


def read_uuid(text: object) -> UUID | None:
    """An id as we write ids, 36 characters; None for anything else."""
    try:
        return UUID(text) if isinstance(text, str) and len(text) == 36 else None
    except ValueError:
        return None


def wire_time(at: datetime, zone: ZoneInfo) -> str:
    """Zone-less, without fraction, in the organisation's wire time zone (design.md §4)."""
    return at.astimezone(zone).replace(tzinfo=None).isoformat(timespec="seconds")


def request_data(organisation: Organisation, request: Request, payload: bytes) -> RequestData:
    """A request in the contract's form; `payload` is the stored call, masked or not."""
    zone = ZoneInfo(organisation.wire_time_zone)
    details = Details(payload=Raw(payload), maker_access=True, payload_valid=True)
    if request.decided_at is not None and request.decisions:
        last = request.decisions[-1]
        details.decision = AdminTaskPayload(last.verdict, last.message)
        details.decision_output = last.verdict
        details.checker_access = True
    if (executed := request.executed) is not None:
        details.intouch_output = IntouchOutput(executed.status, dict(executed.headers), Raw(executed.body.encode()))
    elif request.outcome is not None and request.ended_at is not None:
        kind, outcome = request.request_type, request.outcome
        body = encode(execution_answers.body(kind, outcome))
        details.intouch_output = IntouchOutput(
            execution_answers.status(kind, outcome),
            execution_answers.headers(kind, organisation.org_id, outcome, request.ended_at, len(body)),
            Raw(body),
        )
    return RequestData(
        requestId=str(request.request_id),
        userId=request.maker_user_id,
        userName=request.maker_user_name,
        requestType=request.request_type.lower(),
        state=WIRE_STATE[request.state],
        startTime=wire_time(request.started_at, zone),
        endTime=None if request.ended_at is None else wire_time(request.ended_at, zone),
        details=details,
    )


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twin = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidPayload(f"the key {twin[:64]!r} stands twice in one object: send it once", twin[:64])
    return found


def _no_constant(name: str) -> Any:
    raise InvalidPayload(f"{name} is not a JSON number: send a finite one")


def _out_of_range() -> InvalidPayload:
    return InvalidPayload("a number in the body is out of range: send plain digits")


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text) if len(text) <= NUMBER_LENGTH_MAX else None
    except InvalidOperation:  # an exponent that even Decimal cannot hold
        number = None
    if number is None or abs(number.adjusted()) > MAGNITUDE_MAX:
        raise _out_of_range()
    return number


def _integer(text: str) -> int:
    if len(text) > MAGNITUDE_MAX:
        raise _out_of_range()
    return int(text)


_decode = json.JSONDecoder(
    object_pairs_hook=_no_twins, parse_constant=_no_constant, parse_float=_decimal, parse_int=_integer
).decode


def strict_json(body: bytes) -> Any:
    """The body as exact values (numbers as int or Decimal), or InvalidPayload.

    Refused: invalid UTF-8, duplicate keys, NaN and infinities, NUL, lone surrogates, depth over 64.
    """
    try:
        text = body.decode("utf-8", "strict")
        value = _decode(text)
    except InvalidPayload:
        raise
    except UnicodeDecodeError as error:
        raise InvalidPayload(f"the body is not UTF-8: byte {error.start} cannot be read") from None
    except json.JSONDecodeError as error:
        if error.doc.startswith("\ufeff"):
            raise InvalidPayload("the body begins with a byte order mark: send the JSON without it") from None
        raise InvalidPayload(
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise InvalidPayload(f"the body is nested deeper than {DEPTH_MAX} levels") from None
    if b"\\u" in body or b"\x00" in body or body.count(b"{") + body.count(b"[") > DEPTH_MAX:
        _check_text_and_depth(value)
    return value


def _check_text_and_depth(value: Any) -> None:
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        current, depth = waiting.pop()
        if depth > DEPTH_MAX:
            raise InvalidPayload(f"the body is nested deeper than {DEPTH_MAX} levels")
        if isinstance(current, str):
            if "\x00" in current or any("\ud800" <= character <= "\udfff" for character in current):
                raise InvalidPayload("a text in the body holds NUL or half a surrogate pair: send real characters")
        elif isinstance(current, dict):
            waiting.extend((key, depth) for key in current)
            waiting.extend((child, depth + 1) for child in current.values())
        elif isinstance(current, list):
            waiting.extend((child, depth + 1) for child in current)


def json_object(body: bytes) -> dict[str, Any]:
    """The body as one JSON object, or InvalidPayload."""
    value = strict_json(body)
    if not isinstance(value, dict):
        raise InvalidPayload("the body must be one JSON object")
    return value


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """The paths at which two JSON values differ; a key that is not there differs from null."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key, UNSET), after.get(key, UNSET), f"{path}.{key}" if path else key)
    elif before != after:
        yield path
