"""Our own API for what happens on external hosts: attempts, look-ups, incidents and how people settle them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta, Raw

from counterfoil.application import ids, incidents, reads
from counterfoil.application.requests import Stale
from counterfoil.domain.access import Actor
from counterfoil.domain.evidence import Tried
from counterfoil.domain.executions import reference_of
from counterfoil.domain.incidents import TEXT_MAX, Incident, SettleIncident, not_found, read_settlement
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.reach import may_read, readable_units
from counterfoil.domain.refusals import InvalidPayload, Refusal
from counterfoil.domain.requests import Request
from counterfoil.http import wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.request_reads import no_such_request, request_id_of
from counterfoil.http.routing import Answer, Call, Context

LIMIT_MAX: Final = 200
_LIMIT_DEFAULT: Final = 50
_FIRST: Final = UUID(int=0)
_Line: TypeAlias = tuple[str, str, str, str, str, str, str, str | None, str | None]


_Told: TypeAlias = Annotated[str, Meta(pattern=r"\S", max_length=TEXT_MAX)]


class Attempt(msgspec.Struct):
    """One call to the host. `response` is what came back, `sentDigest` that of the exact bytes."""

    number: int
    state: str
    outcome: str | None
    reference: str
    sentDigest: str
    executor: str
    late: bool
    plannedAt: str
    sentAt: str | None
    answeredAt: str | None
    milliseconds: float | None
    response: Raw | None


class LookUp(msgspec.Struct):
    """What the host said when a lost call was looked up."""

    number: int
    attempt: int
    verdict: str
    askedAt: str
    answeredAt: str
    response: Raw


class Attempts(msgspec.Struct):
    """All that was sent for one request, and all that came back."""

    attempts: list[Attempt]
    lookUps: list[LookUp]


class AttemptsAnswer(msgspec.Struct):
    """The envelope around them."""

    data: Attempts
    errors: None = None


class Voice(msgspec.Struct):
    """What one person found out."""

    userName: str
    settledAs: str
    reason: str
    evidence: str
    at: str


class IncidentLine(msgspec.Struct):
    """One line of the list. `kind` says in one word why no machine could go on."""

    incidentId: str
    requestId: str
    requestType: str
    hostId: str
    kind: str
    message: str
    openedAt: str
    settledAs: str | None
    settledAt: str | None


class IncidentData(IncidentLine):
    """An incident with its evidence: the payload with its secrets masked, every attempt and look-up."""

    state: str
    reference: str
    voices: list[Voice]
    voicesRequired: int
    sent: Raw
    attempts: list[Attempt]
    lookUps: list[LookUp]


class IncidentAnswer(msgspec.Struct):
    """The envelope around one incident."""

    data: IncidentData
    errors: None = None


class IncidentList(msgspec.Struct):
    """A page; `nextCursor` is the `cursor` of the next one, null on the last."""

    data: list[IncidentLine]
    nextCursor: str | None
    errors: None = None


class Settlement(msgspec.Struct):
    """What became of the request, and how that is known."""

    settledAs: Literal["executed", "not_executed"]
    reason: _Told
    evidence: _Told


async def list_attempts(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/requests/{requestId}/attempts."""
    request_id = request_id_of(call)

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        found = await reads.list_attempts(context.pool, organisation.org_id, request_id)
        if found is None or found.organisation_version != organisation.version:
            return Stale(found.organisation_version if found else 0)
        if found.unit_id is None or not may_read(organisation, actor, found.unit_id, datetime.now(UTC)):
            raise no_such_request()
        return Answer(200, wire.encode(AttemptsAnswer(_attempts(found))))

    return await answer_fresh(context, call, attempt)


async def list_page(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/incidents?state=open|all&limit=&cursor=."""
    state = call.query_value("state") or "open"
    if state not in ("open", "all"):
        raise InvalidPayload("state must be open or all", "state")
    limit = call.query_number("limit", LIMIT_MAX, 1) or _LIMIT_DEFAULT
    after = wire.read_uuid(call.query_value("cursor")) if call.query_value("cursor") else _FIRST
    if after is None:
        raise InvalidPayload("cursor must be the nextCursor of the page before", "cursor")

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        units = readable_units(organisation, actor, datetime.now(UTC))
        found = await incidents.list_incidents(
            context.pool, organisation.org_id, after, units, all_of_them=state == "all", limit=limit + 1
        )
        if found is None or found[0] != organisation.version:
            return Stale(found[0] if found else 0)
        rows = found[1][:limit]
        lines = [IncidentLine(*_line(row.incident, row.request_type, row.host_id)) for row in rows]
        more = str(rows[-1].incident.incident_id) if len(found[1]) > limit else None
        return Answer(200, wire.encode(IncidentList(lines, more)))

    return await answer_fresh(context, call, attempt)


async def get_one(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/incidents/{incidentId}."""
    incident_id = _incident_id(call)

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        return await _shown(context, organisation, actor, incident_id)

    return await answer_fresh(context, call, attempt)


async def settle(context: Context, call: Call) -> Answer:
    """POST /counterfoil/v1/incidents/{incidentId}/settle."""
    incident_id = _incident_id(call)
    voice_id = ids.uuid7()

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        body = wire.json_object(call.body)
        told = read_settlement(body.get("settledAs"), body.get("reason"), body.get("evidence"))
        if isinstance(told, Refusal):
            raise told
        command = SettleIncident(voice_id, actor, incident_id, *told, salt=ids.salt())
        outcome = await context.incidents.submit(organisation.org_id, command)
        if isinstance(outcome, Refusal):
            raise outcome
        if isinstance(outcome, Stale):
            return outcome
        return await _shown(context, organisation, actor, incident_id)

    return await answer_fresh(context, call, attempt)


async def _shown(context: Context, organisation: Organisation, actor: Actor, incident_id: UUID) -> Answer | Stale:
    found = await incidents.find_incident(context.pool, organisation.org_id, incident_id)
    if found is None or found[0] != organisation.version:
        return Stale(found[0] if found else 0)
    _, incident, request = found
    if incident is None or request is None or not may_read(organisation, actor, request.unit_id, datetime.now(UTC)):
        raise not_found()
    made = await reads.list_attempts(context.pool, organisation.org_id, request.request_id)
    evidence = _attempts(made) if made else Attempts([], [])
    return Answer(200, wire.encode(IncidentAnswer(_data(organisation, incident, request, evidence))))


def _data(organisation: Organisation, incident: Incident, request: Request, evidence: Attempts) -> IncidentData:
    reference = next((each.reference for each in evidence.attempts), reference_of(request))
    return IncidentData(
        *_line(incident, request.request_type, request.host_id),
        state=request.state,
        reference=reference,
        voices=[
            Voice(each.user_name, each.settled_as, each.reason, each.evidence, wire.iso(each.at))
            for each in incident.voices
        ],
        voicesRequired=organisation.settling_quorum,
        sent=Raw(request.payload),
        attempts=evidence.attempts,
        lookUps=evidence.lookUps,
    )


def _line(incident: Incident, request_type: str, host_id: str) -> _Line:
    return (
        str(incident.incident_id), str(incident.request_id), request_type, host_id, incident.kind, incident.message,
        wire.iso(incident.opened_at), incident.settled_as,
        wire.iso_or_none(incident.settled_at),
    )  # fmt: skip


def _attempts(made: Tried) -> Attempts:
    return Attempts(
        [
            Attempt(
                each.number, each.state, each.outcome, each.reference, each.sent_digest.hex(), each.owner, each.late,
                wire.iso(each.planned_at), wire.iso_or_none(each.sent_at), wire.iso_or_none(each.answered_at),
                each.milliseconds,
                None if each.response is None else Raw(each.response),
            )
            for each in made.attempts
        ],
        [
            LookUp(
                each.number, each.attempt, each.verdict, wire.iso(each.asked_at), wire.iso(each.answered_at),
                Raw(each.response),
            )
            for each in made.look_ups
        ],
    )  # fmt: skip


def _incident_id(call: Call) -> UUID:
    found = wire.read_uuid(call.path_params["incident_id"])
    if found is None:
        raise not_found()
    return found
