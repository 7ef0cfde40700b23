"""Incidents: found for a verb, fetched one by one, listed by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from counterfoil.domain.evidence import IncidentRow
from counterfoil.domain.incidents import Incident, SettleIncident, Voice
from counterfoil.domain.requests import Request
from counterfoil.storage import statements
from counterfoil.storage.database import Tx
from counterfoil.storage.requests import request_from_row

_SQL = statements.load("incidents.sql")
_voices = msgspec.json.Decoder(tuple[Voice, ...])


class IncidentFile(Struct, frozen=True):
    """What the database knows about one command, read under the lock of the request."""

    incident: Incident | None
    already_written: bool


async def find_requests(tx: Tx, org_id: int, incident_ids: Sequence[UUID]) -> Mapping[UUID, UUID]:
    """The request of each incident that there is."""
    rows = await tx.fetch(_SQL["find_incident_requests"], org_id, incident_ids)
    return {row["incident_id"]: row["request_id"] for row in rows}


async def read_incidents(tx: Tx, org_id: int, commands: Sequence[SettleIncident]) -> list[IncidentFile]:
    """The file of each command; lock the requests first."""
    arguments = zip(*((each.voice_id, each.incident_id) for each in commands), strict=True)
    rows = {row["voice_id"]: row for row in await tx.fetch(_SQL["read_incidents"], org_id, *arguments)}
    return [
        IncidentFile(_incident(row, row["kind"]), row["already_written"])
        for row in (rows[each.voice_id] for each in commands)
    ]


def _incident(row: Any, kind: str | None) -> Incident | None:
    if row["incident_id"] is None:
        return None
    return Incident(
        row["incident_id"], row["request_id"], kind or "", row["message"], row["opened_at"], row["settled_as"],
        row["settled_at"], () if row.get("voices") is None else _voices.decode(row["voices"]),
    )  # fmt: skip


async def fetch_incident(tx: Tx, org_id: int, incident_id: UUID) -> tuple[int, Incident | None, Request | None] | None:
    """The organisation's version, the incident and its request."""
    row = await tx.fetchrow(_SQL["fetch_incident"], org_id, incident_id)
    if row is None:
        return None
    incident = _incident(row, row["incident_kind"])
    return row["organisation_version"], incident, None if incident is None else request_from_row(row)


async def list_incidents(
    tx: Tx, org_id: int, after: UUID, units: frozenset[int] | None, *, all_of_them: bool, limit: int
) -> tuple[int, list[IncidentRow]] | None:
    """The organisation's version and a page of the incidents at these units, or at all."""
    places = None if units is None else sorted(units)
    rows = await tx.fetch(_SQL["list_incidents"], org_id, after, all_of_them, limit, places)
    if not rows:
        return None
    found = [
        IncidentRow(incident, row["request_type"], row["host_id"], row["external_reference"])
        for row in rows
        if (incident := _incident(row, row["kind"])) is not None
    ]
    return rows[0]["organisation_version"], found
