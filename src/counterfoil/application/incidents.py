"""Settling incidents: people say what became of a request that no machine could clear up."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from msgspec.structs import replace

from counterfoil.application import counting
from counterfoil.application.attempts import claim_of
from counterfoil.application.requests import Stale, is_current
from counterfoil.domain import incidents as rules
from counterfoil.domain.caps import CapBook
from counterfoil.domain.evidence import IncidentRow
from counterfoil.domain.incidents import EXECUTED, Incident, Settled, SettleIncident
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import Refusal
from counterfoil.domain.requests import Request
from counterfoil.domain.seals import make_event
from counterfoil.storage import attempts, incidents
from counterfoil.storage.changes import Changes, write
from counterfoil.storage.database import Pool, Tx, acquire

SettleOutcome = Incident | Stale | Refusal


async def settle_incidents(
    tx: Tx, organisation: Organisation, commands: Sequence[SettleIncident]
) -> list[SettleOutcome]:
    """Each command adds one voice; the voice that suffices ends the request."""
    org_id = organisation.org_id
    requests = await incidents.find_requests(tx, org_id, [each.incident_id for each in commands])
    loaded = await attempts.lock_executions(tx, org_id, sorted(requests.values()))
    if loaded is None:
        return [rules.not_found() for _ in commands]
    book = await counting.lock_for_ending(tx, organisation, list(loaded.executions))
    files = await incidents.read_incidents(tx, org_id, commands)
    changes = Changes()
    outcomes: list[SettleOutcome] = []
    seen: dict[UUID, tuple[Incident, Request]] = {}
    for command, file in zip(commands, files, strict=True):
        incident, request = file.incident, None
        if incident is not None:
            execution = loaded.executions.get(incident.request_id)
            incident, request = seen.get(
                incident.incident_id, (incident, None if execution is None else execution.request)
            )
        if file.already_written and incident is not None:
            outcomes.append(incident)
            continue
        if not is_current(organisation, command.actor, loaded.organisation_version):
            outcomes.append(Stale(loaded.organisation_version))
            continue
        result = rules.settle(organisation, incident, request, command, loaded.now)
        if isinstance(result, Refusal) or incident is None or request is None:
            outcomes.append(result if isinstance(result, Refusal) else Stale(0))
            continue
        incident, request = _keep(organisation, incident, request, command, result, changes, book)
        seen[incident.incident_id] = incident, request
        outcomes.append(incident)
    changes.add_counted(book)
    await write(tx, org_id, changes)
    return outcomes


def _keep(
    organisation: Organisation,
    incident: Incident,
    request: Request,
    command: SettleIncident,
    result: Settled,
    changes: Changes,
    book: CapBook,
) -> tuple[Incident, Request]:
    """Write one voice and what it brings about."""
    voice, after = result.voice, result.request or request
    changes.incident_voices.append((
        incident.incident_id, voice.person_id, request.maker_person_id, voice.user_id, voice.user_name,
        voice.settled_as, voice.reason, voice.evidence, voice.at,
    ))  # fmt: skip
    incident = replace(incident, voices=(*incident.voices, voice))
    if result.request is not None:
        incident = replace(incident, settled_as=voice.settled_as, settled_at=voice.at)
        changes.change_request(after)
        changes.settled_incidents.append((incident.incident_id, voice.settled_as, voice.at))
        if voice.settled_as != EXECUTED:
            changes.freed_references.append((*claim_of(after), after.request_id))
            book.release(after.request_id)
    facts = {
        "digest": request.digest.hex(),
        "from": request.state,
        "incident": str(incident.incident_id),
        "login": command.actor.login,
        "org": organisation.org_id,
        "settledAs": voice.settled_as,
        "state": after.state,
        "voices": len(incident.voices),
    }
    personal = {
        "person": f"{voice.person_id} {voice.user_name}",
        "reason": voice.reason,
        "evidence": voice.evidence,
    }
    kind = "incident_voice" if result.request is None else after.state
    changes.add_event(make_event(request.request_id, command.voice_id, kind, voice.at, command.salt, facts, personal))
    return incident, after


async def find_incident(
    pool: Pool, org_id: int, incident_id: UUID
) -> tuple[int, Incident | None, Request | None] | None:
    """The organisation's version, the incident and its request."""
    async with acquire(pool) as connection:
        return await incidents.fetch_incident(connection, org_id, incident_id)


async def list_incidents(
    pool: Pool, org_id: int, after: UUID, units: frozenset[int] | None, *, all_of_them: bool, limit: int
) -> tuple[int, list[IncidentRow]] | None:
    """The organisation's version and a page, the oldest first."""
    async with acquire(pool) as connection:
        return await incidents.list_incidents(connection, org_id, after, units, all_of_them=all_of_them, limit=limit)
