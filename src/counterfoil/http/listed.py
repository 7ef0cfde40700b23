"""Requests in lists of our own API: one row each, with whether the reader can decide it and, if not, why."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from counterfoil.application.inbox import Listed
from counterfoil.domain.intouch_answers import number
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.points import FOREVER
from counterfoil.domain.refusals import Refusal
from counterfoil.domain.requests import Request
from counterfoil.http import wire

IDENTIFIER_NAMES: Final = {
    "mobile": "mobile",
    "email": "email",
    "external_id": "externalId",
    "card_number": "cardnumber",
}
Points = Annotated[Any, Meta(extra_json_schema={"type": "number"})]  # exact, at most three decimals


class WhyNot(msgspec.Struct):
    """Why the reader cannot decide: the refusal that a decision would be answered with."""

    code: int
    reason: str
    message: str


class Somebody(msgspec.Struct):
    """A person, by the user that acted."""

    staffId: str
    userId: int
    userName: str


class Where(msgspec.Struct):
    """The unit that a request was made at; name and kind as they are now."""

    unitId: int
    kind: str | None
    name: str | None


class Whose(msgspec.Struct):
    """The member as the request names them; `memberId` is null while nobody has that identifier."""

    memberId: int | None
    identifierName: str
    identifierValue: str


class Row(msgspec.Struct):
    """One request of a list. Times are UTC."""

    requestId: str
    requestType: str
    state: str
    points: Points | None
    member: Whose
    reference: str | None
    unit: Where
    maker: Somebody
    startedAt: str
    urgentAt: str | None
    endedAt: str | None
    approvalsRequired: int
    approvalsGiven: int
    flags: list[str]
    digest: str
    canAct: bool
    whyNot: WhyNot | None


class Paging(msgspec.Struct):
    """`next` is the cursor of the next page, null on the last. A page may be shorter than `limit` before the end."""

    limit: int
    next: str | None


class RowList(msgspec.Struct):
    """A page of requests."""

    data: list[Row]
    pagination: Paging
    errors: None = None


def why_not(refused: Refusal | None) -> WhyNot | None:
    """A refusal as data; its reason is the name of its kind, such as selfApproval."""
    if refused is None:
        return None
    name = type(refused).__name__
    return WhyNot(refused.code, name[0].lower() + name[1:], refused.message)


def where(organisation: Organisation, unit_id: int) -> Where:
    """A unit by its id."""
    unit = organisation.units.get(unit_id)
    return Where(unit_id, None, None) if unit is None else Where(unit_id, unit.kind, unit.name)


def row_of(organisation: Organisation, listed: Listed) -> Row:
    """One request of a list."""
    request = listed.request
    return Row(
        requestId=str(request.request_id),
        requestType=request.request_type,
        state=request.state,
        points=None if request.points is None else number(request.points),
        member=member_of(request),
        reference=request.external_reference,
        unit=where(organisation, request.unit_id),
        maker=Somebody(request.maker_person_id, request.maker_user_id, request.maker_user_name),
        startedAt=wire.iso(request.started_at),
        urgentAt=None if request.urgent_at == FOREVER else wire.iso(request.urgent_at),
        endedAt=wire.iso_or_none(request.ended_at),
        approvalsRequired=request.approvals_required,
        approvalsGiven=sum(decision.verdict == "approved" for decision in request.decisions),
        flags=list(request.flags),
        digest=request.digest.hex(),
        canAct=listed.refused is None,
        whyNot=why_not(listed.refused),
    )


def member_of(request: Request) -> Whose:
    """The member as the request names them."""
    name = IDENTIFIER_NAMES.get(request.identifier_kind, request.identifier_kind)
    return Whose(request.member_id, name, request.identifier_value)
