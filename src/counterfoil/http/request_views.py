"""One request in full, and its timeline."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw
from msgspec.structs import replace

from counterfoil.application import reads
from counterfoil.application.inbox import Listed
from counterfoil.application.requests import Stale
from counterfoil.domain import request_views, timelines
from counterfoil.domain.access import Actor, Right
from counterfoil.domain.intouch_answers import number
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.policies import describe_need
from counterfoil.domain.reach import may_read
from counterfoil.domain.request_views import Position, Preview, RequestFile
from counterfoil.domain.requests import WIRE_STATE, Request, State
from counterfoil.http import wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.listed import Points, Row, Somebody, WhyNot, row_of, why_not
from counterfoil.http.request_reads import no_such_request, request_id_of
from counterfoil.http.request_workflow import told
from counterfoil.http.routing import Answer, Call, Context

JsonObject = Annotated[Any, Meta(extra_json_schema={"type": "object"})]


class Ending(msgspec.Struct):
    """Points of one lot that end."""

    points: Points
    held: Points
    endsAt: str


class Held(msgspec.Struct):
    """What this request set aside. state: open, captured, released or expired."""

    points: Points
    state: str
    expiresAt: str


class MemberPosition(msgspec.Struct):
    """The member's points now."""

    memberId: int
    available: Points
    held: Points
    expiring: list[Ending]
    hold: Held | None


class Approval(msgspec.Struct):
    """A dry run of an approval now, by the reader or, where they cannot decide, by the first person who can.

    `code` and what follows are of the last approval, whether or not this one is the last.
    """

    by: str
    isLast: bool
    refused: WhyNot | None
    code: int | None
    succeeded: bool
    message: str
    needsTillCheck: bool
    needsComment: bool
    availableAfter: Points | None
    heldAfter: Points | None


class Voice(msgspec.Struct):
    """A decision; it counts while its owner is active and entitled."""

    person: Somebody
    verdict: str
    message: str
    at: str
    counts: bool


class Requirement(msgspec.Struct):
    """So many different people with this right must approve; `who` says which ones, `given` how many have."""

    right: str
    count: int
    given: int
    who: str
    step: int


class Approvers(msgspec.Struct):
    """Who must approve, who has decided, and who can decide now: the first of them, by staff id."""

    must: list[Requirement]
    has: list[Voice]
    can: list[Somebody]
    moreCan: bool


class Flag(msgspec.Struct):
    """What a checker should know."""

    flag: str
    meaning: str


class Link(msgspec.Struct):
    """Another request: rel is duplicateOf or sameReference."""

    rel: str
    requestId: str


class FullRequest(msgspec.Struct):
    """One request with everything that a decision needs."""

    request: Row
    wireState: str
    host: str
    call: JsonObject
    flags: list[Flag]
    links: list[Link]
    position: MemberPosition | None
    approval: Approval | None
    approvers: Approvers


class FullAnswer(msgspec.Struct):
    """The envelope."""

    data: FullRequest
    errors: None = None


class TimelineEntry(msgspec.Struct):
    """One thing that happened. `who` and `message` are null where there is none, or where it was erased.

    A call or a look-up at an external host (kinds attempt and look_up) is no event of the audit trail: no `eventId`.
    """

    eventId: str | None
    kind: str
    at: str
    who: str | None
    message: str | None
    facts: dict[str, Any]


class Timeline(msgspec.Struct):
    """What happened to a request, in order."""

    data: list[TimelineEntry]
    errors: None = None


async def get_full(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/requests/{requestId}."""
    request_id = request_id_of(call)

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        found = await reads.find_file(context.pool, organisation.org_id, request_id)
        if found is None or found.organisation_version != organisation.version:
            return Stale(found.organisation_version if found else 0)
        request = found.request
        if request is None or not may_read(organisation, actor, request.unit_id, datetime.now(UTC)):
            raise no_such_request()
        found = replace(found, pairs=await reads.list_pairs(context.pool, organisation, request, actor))
        file = request_views.settled(organisation, found)
        return Answer(200, wire.encode(FullAnswer(_full(organisation, actor, file, request))), told(request))

    return await answer_fresh(context, call, attempt)


def _full(organisation: Organisation, actor: Actor, file: RequestFile, request: Request) -> FullRequest:
    refused = request_views.standing(organisation, file, request, actor)
    can = request_views.who_can(organisation, file, request)
    tried_by = actor if refused is None else next(iter(can), None)
    links = [] if request.duplicate_of is None else [Link("duplicateOf", str(request.duplicate_of))]
    links += [Link("sameReference", str(each)) for each in file.same_reference if each != request.duplicate_of]
    return FullRequest(
        request=row_of(organisation, Listed(request, refused)),
        wireState=WIRE_STATE[request.state],
        host=f"{request.host_id}@{request.host_revision}",
        call=Raw(request.payload),
        flags=[Flag(each, request_views.explain_flag(each)) for each in request.flags],
        links=links,
        position=_position(request_views.position(file)),
        approval=None
        if tried_by is None
        else _approval(request_views.preview(organisation, file, tried_by), needs_comment=request.requirement.comment),
        approvers=_approvers(organisation, file, request, can),
    )


def _position(found: Position | None) -> MemberPosition | None:
    if found is None:
        return None
    hold = found.hold
    return MemberPosition(
        memberId=found.member_id,
        available=number(found.available),
        held=number(found.held),
        expiring=[Ending(number(each.points), number(each.held), wire.iso(each.ends_at)) for each in found.expiring],
        hold=None if hold is None else Held(number(hold.points), hold.state, wire.iso(hold.expires_at)),
    )


def _approval(found: Preview, *, needs_comment: bool) -> Approval:
    return Approval(
        by=found.person_id,
        isLast=found.is_last,
        refused=why_not(found.refused),
        code=found.code,
        succeeded=found.succeeded,
        message=found.message,
        needsTillCheck=found.needs_till_check,
        needsComment=needs_comment,
        availableAfter=None if found.available_after is None else number(found.available_after),
        heldAfter=None if found.held_after is None else number(found.held_after),
    )


def _approvers(organisation: Organisation, file: RequestFile, request: Request, can: list[Actor]) -> Approvers:
    has = [
        Voice(
            Somebody(each.decision.person_id, each.decision.user_id, each.decision.user_name),
            each.decision.verdict,
            each.decision.message,
            wire.iso(each.decision.decided_at),
            each.counts,
        )
        for each in request_views.voices(organisation, request, file.now)
    ]
    given = request_views.filled(organisation, request, file.now)
    people = [Somebody(each.person_id or "", each.user_id, each.user_name) for each in can]
    return Approvers(
        must=[
            Requirement(Right.CHECK, need.count, count, describe_need(need), need.step) for need, count in given.items()
        ],
        has=has,
        can=people[: request_views.PEOPLE_MAX],
        moreCan=len(people) > request_views.PEOPLE_MAX,
    )


async def get_timeline(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/requests/{requestId}/timeline."""
    request_id = request_id_of(call)

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        found = await reads.list_events(context.pool, organisation.org_id, request_id)
        if found is None or found.organisation_version != organisation.version:
            return Stale(found.organisation_version if found else 0)
        if found.unit_id is None or not may_read(organisation, actor, found.unit_id, datetime.now(UTC)):
            raise no_such_request()
        entries = [*timelines.entries(found.events)]
        if any(each.kind == State.APPROVED for each in entries):  # executed by calls, which the ledger needs none of
            tried = await reads.list_attempts(context.pool, organisation.org_id, request_id)
            entries = sorted([*entries, *(timelines.calls(tried) if tried else ())], key=lambda each: each.at)
        lines = [
            TimelineEntry(
                None if each.event_id is None else str(each.event_id),
                each.kind, wire.iso(each.at), each.who, each.message, dict(each.facts),
            )
            for each in entries
        ]  # fmt: skip
        return Answer(200, wire.encode(Timeline(lines)))

    return await answer_fresh(context, call, attempt)
