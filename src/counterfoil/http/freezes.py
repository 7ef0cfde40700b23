"""Freezes over our own API: placed by one person, lifted by two."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from counterfoil.application import ids, reads
from counterfoil.application.requests import Stale
from counterfoil.domain.access import Actor
from counterfoil.domain.comments import masked
from counterfoil.domain.freezes import REASON_MAX, LiftFreeze, PlaceFreeze, Scope
from counterfoil.domain.organisations import Freeze, Organisation
from counterfoil.domain.refusals import Refusal
from counterfoil.http import own, wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.routing import Answer, Call, Context


class FreezeBody(msgspec.Struct, forbid_unknown_fields=True):
    """What to stop and why. `target` is the unit, type, host, maker's person or member; none for the organisation."""

    scope: Literal["organisation", "unit", "type", "host", "maker", "member"]
    reason: Annotated[str, Meta(min_length=1, max_length=REASON_MAX)]
    target: Annotated[str, Meta(max_length=100)] | int = ""


class LiftBody(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing has to be said."""


class ShownFreeze(msgspec.Struct):
    """A freeze and who has had a part in it. `state` is frozen, liftProposed or lifted."""

    freezeId: str
    state: str
    scope: str
    target: str
    reason: str
    placedBy: str
    placedAt: str
    liftProposedBy: str | None
    liftProposedAt: str | None
    liftedBy: str | None
    liftedAt: str | None


class FreezeAnswer(msgspec.Struct):
    """The envelope around one freeze."""

    data: ShownFreeze
    errors: list[str]
    warnings: list[str]


class FreezeList(msgspec.Struct):
    """A page of freezes, newest first."""

    data: list[ShownFreeze]
    page: own.Page
    errors: list[str]
    warnings: list[str]


def _shown(each: Freeze) -> ShownFreeze:
    state = "lifted" if each.lifted_at else "liftProposed" if each.lift_proposed_at else "frozen"
    return ShownFreeze(
        freezeId=str(each.freeze_id),
        state=state,
        scope=each.scope,
        target=each.target,
        reason=each.reason,
        placedBy=each.placed_by,
        placedAt=wire.iso(each.placed_at),
        liftProposedBy=each.lift_proposed_by,
        liftProposedAt=wire.iso_or_none(each.lift_proposed_at),
        liftedBy=each.lifted_by,
        liftedAt=wire.iso_or_none(each.lifted_at),
    )


async def freeze(context: Context, call: Call) -> Answer:
    """POST /counterfoil/v1/freezes."""
    freeze_id = ids.uuid7()

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        body = own.read_body(call, FreezeBody)
        scope, target = Scope(body.scope), str(body.target)
        command = PlaceFreeze(
            freeze_id,
            actor,
            scope,
            target.upper() if scope is Scope.TYPE else target,
            masked(body.reason)[:REASON_MAX],
            ids.salt(),
        )
        return await _change(context, organisation, command)

    return await answer_fresh(context, call, attempt)


async def lift(context: Context, call: Call) -> Answer:
    """POST /counterfoil/v1/freezes/{freezeId}/lift: proposes, and lifts when a second person calls it."""
    freeze_id: UUID = own.id_of(call, "freeze_id", "freeze")
    lift_id = ids.uuid7()

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        own.read_body(call, LiftBody)
        return await _change(context, organisation, LiftFreeze(lift_id, actor, freeze_id, ids.salt()))

    return await answer_fresh(context, call, attempt)


async def _change(context: Context, organisation: Organisation, command: PlaceFreeze | LiftFreeze) -> Answer | Stale:
    outcome = await context.freezes.submit(organisation.org_id, command)
    match outcome:
        case Freeze():
            return Answer(200, wire.encode(FreezeAnswer(_shown(outcome), [], [])))
        case Refusal():
            raise outcome
        case Stale():
            return outcome


async def list_page(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/freezes."""
    limit, after, past = own.limit_of(call), own.after_of(call), own.flag_of(call, "past")

    async def attempt(organisation: Organisation, _actor: Actor) -> Answer | Stale:
        page = await reads.list_freezes(context.pool, organisation.org_id, after, limit, past=past)
        if page is None or page.organisation_version != organisation.version:
            return Stale(page.organisation_version if page else 0)
        onward = own.next_of([each.freeze_id for each in page.freezes], limit)
        return Answer(200, wire.encode(FreezeList([_shown(each) for each in page.freezes], onward, [], [])))

    return await answer_fresh(context, call, attempt)
