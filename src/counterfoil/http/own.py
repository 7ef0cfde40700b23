"""What the calls of our own API have in common: a body read into a struct, the envelope, pages, a request's life."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from counterfoil.domain.payloads import points_text
from counterfoil.domain.refusals import InvalidPayload, RequestNotFound
from counterfoil.domain.requests import WIRE_STATE, Request
from counterfoil.http import wire
from counterfoil.http.routing import Answer, Call, Parameter

T = TypeVar("T")
LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
_FIELD = re.compile(r" - at `\$\.?([^`]*)`")

Id = Annotated[str, Meta(min_length=1, max_length=100)]
Text = Annotated[str, Meta(min_length=1, max_length=2000)]
LIMIT: Final = Parameter("limit", "Items per page", {"type": "string", "pattern": "^([1-9][0-9]{0,2})?$"})
AFTER: Final = Parameter("after", "The `next` of the page before", {"type": "string"})


class Page(msgspec.Struct):
    """Where the list goes on; `next` is null on the last page."""

    next: str | None


class Voice(msgspec.Struct):
    """One checker's decision; `onBehalfOf` is who lent them the right."""

    verdict: str
    sentBack: bool
    personId: str
    userName: str
    onBehalfOf: str | None
    reasonCode: str | None
    comment: str
    decidedAt: str


class Result(msgspec.Struct):
    """What the points API said to the execution; an external host may tell no code and no id."""

    code: int | None
    redemptionId: str | None


class RequestLife(msgspec.Struct):
    """Where a request stands in its life. `state` is ours, `wireState` the contract's."""

    requestId: str
    type: str
    state: str
    wireState: str
    sentBack: bool
    digest: str
    makerPersonId: str
    makerUserName: str
    points: str | None
    flags: list[str]
    approvalsRequired: int
    startedAt: str
    expiresAt: str | None
    endedAt: str | None
    voices: list[Voice]
    resubmissionOf: str | None
    result: Result | None


class LifeAnswer(msgspec.Struct):
    """The envelope around one request."""

    data: RequestLife
    errors: list[str]
    warnings: list[str]


def read_body(call: Call, kind: type[T]) -> T:
    """The body as this struct; what is wrong is refused with its field, and so is a field that is none."""
    body = wire.json_object(call.body)
    known: Sequence[str] = kind.__struct_encode_fields__  # type: ignore[attr-defined]
    for name in body:
        if name not in known:
            raise InvalidPayload(f"{name[:64]!r} is no field of this call: it takes {', '.join(known)}", name[:64])
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        message = str(error)
        found = _FIELD.search(message)
        path = found[1] if found else None
        told = _FIELD.sub("", message).rstrip(".")
        missing = re.fullmatch(r"Object missing required field `(\w+)`", told)
        if missing:
            raise InvalidPayload(f"{missing[1]} is mandatory", missing[1]) from None
        raise InvalidPayload(f"{path or 'the body'} cannot be used: {told[:1].lower()}{told[1:]}", path) from None


def id_of(call: Call, name: str, what: str) -> UUID:
    """A UUID in the URL; raises RequestNotFound."""
    found = wire.read_uuid(call.path_params[name])
    if found is None:
        raise RequestNotFound(f"no {what} of this organisation has that id", name)
    return found


def limit_of(call: Call) -> int:
    """How many items a page may have."""
    return call.query_number("limit", LIMIT_MAX, 1) or LIMIT_DEFAULT


def after_of(call: Call) -> UUID | None:
    """The id that the page begins after."""
    text = call.query_value("after")
    found = wire.read_uuid(text)
    if text is not None and found is None:
        raise InvalidPayload("after must be the `next` of the page before", "after")
    return found


def flag_of(call: Call, name: str) -> bool:
    """A query parameter that is true or false; false without it."""
    text = call.query_value(name) or "false"
    if text not in ("true", "false"):
        raise InvalidPayload(f"{name} must be true or false", name)
    return text == "true"


def next_of(ids: Sequence[UUID], limit: int) -> Page:
    """Where the list goes on after these."""
    return Page(str(ids[-1]) if len(ids) == limit else None)


def _result(request: Request) -> Result | None:
    if request.executed is not None:
        return Result(request.executed.code, None)
    return None if request.outcome is None else Result(request.outcome.code, request.outcome.redemption_id)


def life_of(request: Request) -> RequestLife:
    """A request as its life is told; who decided on behalf of whom is in it."""
    return RequestLife(
        requestId=str(request.request_id),
        type=request.request_type,
        state=request.state,
        wireState=WIRE_STATE[request.state],
        sentBack=request.sent_back,
        digest=request.digest.hex(),
        makerPersonId=request.maker_person_id,
        makerUserName=request.maker_user_name,
        points=None if request.points is None else points_text(request.points),
        flags=list(request.flags),
        approvalsRequired=request.approvals_required,
        startedAt=wire.iso(request.started_at),
        expiresAt=wire.iso_or_none(request.expires_at),
        endedAt=wire.iso_or_none(request.ended_at),
        voices=[
            Voice(
                each.verdict, each.sent_back, each.person_id, each.user_name, each.on_behalf_of, each.reason_code,
                each.message, wire.iso(each.decided_at),
            )
            for each in request.decisions
        ],
        resubmissionOf=None if request.resubmission_of is None else str(request.resubmission_of),
        result=_result(request),
    )  # fmt: skip


def life_answer(request: Request, headers: dict[str, str]) -> Answer:
    """A request's life as a good answer."""
    return Answer(200, wire.encode(LifeAnswer(life_of(request), [], [])), headers)


def parameter(name: str, description: str, schema: dict[str, Any] | None = None) -> Parameter:
    """A part of the path: an id."""
    return Parameter(name, description, schema or {"type": "string", "format": "uuid"}, "path", required=True)
