"""Delegations over our own API: made by the delegator in person, listed, ended early."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from counterfoil.application import ids, reads
from counterfoil.application.requests import Stale
from counterfoil.domain import payloads
from counterfoil.domain.access import Actor
from counterfoil.domain.delegations import Delegate, EndDelegation
from counterfoil.domain.organisations import Delegation, Organisation
from counterfoil.domain.refusals import Refusal
from counterfoil.http import own, wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.routing import Answer, Call, Context

Moment = Annotated[datetime, Meta(tz=True)]
Points = Annotated[str, Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,3})?$")] | Annotated[int, Meta(gt=0, lt=10**12)]


class DelegateBody(msgspec.Struct, forbid_unknown_fields=True, rename={"valid_from": "from"}):
    """To whom, until when, and for what; times with their offset. What is left out does not restrict it."""

    delegate: own.Id
    until: Moment
    valid_from: Moment | None = None
    unit: Annotated[int, Meta(gt=0, le=payloads.ID_MAX)] | None = None
    type: own.Id | None = None
    pointsMax: Points | None = None


class EndBody(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing has to be said."""


class ShownDelegation(msgspec.Struct, rename={"valid_from": "from"}):
    """A delegation; `endedAt` is set when it was ended early."""

    delegationId: str
    delegator: str
    delegate: str
    valid_from: str
    until: str
    unit: int | None
    type: str | None
    pointsMax: str | None
    madeAt: str | None
    endedAt: str | None


class DelegationAnswer(msgspec.Struct):
    """The envelope around one delegation."""

    data: ShownDelegation
    errors: list[str]
    warnings: list[str]


class DelegationList(msgspec.Struct):
    """A page of delegations, newest first."""

    data: list[ShownDelegation]
    page: own.Page
    errors: list[str]
    warnings: list[str]


def _shown(each: Delegation) -> ShownDelegation:
    return ShownDelegation(
        delegationId=str(each.delegation_id),
        delegator=each.delegator_id,
        delegate=each.delegate_id,
        valid_from=wire.iso(each.valid_from),
        until=wire.iso(each.valid_until),
        unit=each.unit_id,
        type=each.request_type,
        pointsMax=None if each.points_max is None else payloads.points_text(each.points_max),
        madeAt=wire.iso_or_none(each.made_at),
        endedAt=wire.iso_or_none(each.ended_at),
    )


async def delegate(context: Context, call: Call) -> Answer:
    """POST /counterfoil/v1/delegations."""
    delegation_id = ids.uuid7()

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        body = own.read_body(call, DelegateBody)
        command = Delegate(
            delegation_id=delegation_id,
            actor=actor,
            delegate_id=body.delegate,
            valid_until=body.until,
            salt=ids.salt(),
            valid_from=body.valid_from,
            unit_id=body.unit,
            request_type=None if body.type is None else body.type.upper(),
            points_max=None if body.pointsMax is None else payloads.points_from_wire(body.pointsMax, "pointsMax"),
        )
        return await _change(context, organisation, command)

    return await answer_fresh(context, call, attempt)


async def end(context: Context, call: Call) -> Answer:
    """POST /counterfoil/v1/delegations/{delegationId}/end."""
    delegation_id: UUID = own.id_of(call, "delegation_id", "delegation")
    end_id = ids.uuid7()

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        own.read_body(call, EndBody)
        return await _change(context, organisation, EndDelegation(end_id, actor, delegation_id, ids.salt()))

    return await answer_fresh(context, call, attempt)


async def _change(context: Context, organisation: Organisation, command: Delegate | EndDelegation) -> Answer | Stale:
    outcome = await context.delegations.submit(organisation.org_id, command)
    match outcome:
        case Delegation():
            return Answer(200, wire.encode(DelegationAnswer(_shown(outcome), [], [])))
        case Refusal():
            raise outcome
        case Stale():
            return outcome


async def list_page(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/delegations."""
    limit, after = own.limit_of(call), own.after_of(call)
    person, past = call.query_value("person"), own.flag_of(call, "past")

    async def attempt(organisation: Organisation, _actor: Actor) -> Answer | Stale:
        page = await reads.list_delegations(context.pool, organisation.org_id, person, after, limit, past=past)
        if page is None or page.organisation_version != organisation.version:
            return Stale(page.organisation_version if page else 0)
        onward = own.next_of([each.delegation_id for each in page.delegations], limit)
        return Answer(200, wire.encode(DelegationList([_shown(each) for each in page.delegations], onward, [], [])))

    return await answer_fresh(context, call, attempt)
