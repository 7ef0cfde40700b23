"""What no machine can clear up, and how people settle it: with a right, with reasons, never the maker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from counterfoil.domain import access
from counterfoil.domain.access import Actor, Right
from counterfoil.domain.executions import end_by_people
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import (
    AlreadyCompleted,
    InvalidPayload,
    NotPermitted,
    Refusal,
    RequestNotFound,
    SelfApproval,
    SelfInterest,
)
from counterfoil.domain.requests import Request, concerned_in

EXECUTED, NOT_EXECUTED = "executed", "not_executed"
TEXT_MAX: Final = 4000


class Voice(Struct, frozen=True):
    """What one person found out."""

    person_id: str
    user_id: int
    user_name: str
    settled_as: str
    reason: str
    evidence: str
    at: datetime


class Incident(Struct, frozen=True):
    """An incident with the voices so far."""

    incident_id: UUID
    request_id: UUID
    kind: str
    message: str
    opened_at: datetime
    settled_as: str | None = None
    settled_at: datetime | None = None
    voices: Sequence[Voice] = ()


class SettleIncident(Struct, frozen=True):
    """A person says what became of the request. `voice_id` is made once."""

    voice_id: UUID
    actor: Actor
    incident_id: UUID
    settled_as: str
    reason: str
    evidence: str
    salt: bytes


class Settled(Struct, frozen=True):
    """The incident after one voice; `request` has ended when the voices suffice."""

    voice: Voice
    request: Request | None


def read_settlement(settled_as: object, reason: object, evidence: object) -> tuple[str, str, str] | InvalidPayload:
    """What a person has sent, judged field by field."""
    if settled_as not in (EXECUTED, NOT_EXECUTED):
        return InvalidPayload(f"settledAs must be {EXECUTED} or {NOT_EXECUTED}", "settledAs")
    for name, text in (("reason", reason), ("evidence", evidence)):
        if not isinstance(text, str) or not text.strip() or len(text) > TEXT_MAX:
            return InvalidPayload(f"{name} is mandatory: a text of at most {TEXT_MAX} characters", name)
    return str(settled_as), str(reason), str(evidence)


def not_found() -> RequestNotFound:
    """The organisation has no such incident."""
    return RequestNotFound("no incident of this organisation has that id", "incidentId")


def settle(
    organisation: Organisation,
    incident: Incident | None,
    request: Request | None,
    command: SettleIncident,
    now: datetime,
) -> Settled | Refusal:
    """Add one voice; as many people as the organisation asks for, who say the same, end the request."""
    if incident is None or request is None:
        return not_found()
    refused = may_settle(organisation, incident, request, command.actor, now)
    if refused is not None:
        return refused
    actor = command.actor
    voice = Voice(
        actor.person_id or "", actor.user_id, actor.user_name, command.settled_as, command.reason, command.evidence, now
    )
    agreeing = [
        each
        for each in (*incident.voices, voice)
        if each.settled_as == voice.settled_as and _is_entitled(organisation, each.person_id, request, now)
    ]
    if len(agreeing) < organisation.settling_quorum:
        return Settled(voice, None)
    return Settled(voice, end_by_people(request, succeeded=voice.settled_as == EXECUTED, now=now))


def may_settle(
    organisation: Organisation, incident: Incident, request: Request, actor: Actor, now: datetime
) -> Refusal | None:
    """Why this person cannot settle this incident; None if they can."""
    if actor.person_id is None or not actor.has_user:
        return NotPermitted("an incident is settled by a person: send X-CAP-UI-AUTH-TOKEN")
    if actor.person_id == request.maker_person_id:
        return SelfApproval("you made the request: another person must find out what became of it")
    if actor.person_id in _concerned(organisation, request):
        return SelfInterest("you are the member concerned: another person must find out what became of it")
    person = organisation.people.get(actor.person_id)
    refused = access.why_no_voice(actor, now)
    if refused is None and person is not None:
        refused = access.why_not_check(organisation, person, now)
    if refused is not None:
        return refused
    if not _is_entitled(organisation, actor.person_id, request, now):
        return NotPermitted(f"you lack the right {Right.SETTLE} at unit {request.unit_id} for {request.request_type}")
    if incident.settled_as is not None:
        names = ", ".join(each.user_name for each in incident.voices if each.settled_as == incident.settled_as)
        return AlreadyCompleted(f"the incident is already settled as {incident.settled_as} by {names}", "incidentId")
    if any(each.person_id == actor.person_id for each in incident.voices):
        return AlreadyCompleted("you have already said what became of it: it waits for another person", "incidentId")
    return None


def _is_entitled(organisation: Organisation, person_id: str, request: Request, now: datetime) -> bool:
    return person_id not in _concerned(organisation, request) and access.has_right(
        organisation,
        person_id,
        Right.SETTLE,
        unit_id=request.unit_id,
        request_type=request.request_type,
        points=request.points,
        now=now,
    )


def _concerned(organisation: Organisation, request: Request) -> frozenset[str]:
    return concerned_in(organisation, request, None)
