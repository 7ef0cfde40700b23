"""What people read of an execution outside: each attempt, each look-up, each incident."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from counterfoil.domain.incidents import Incident


class AttemptRow(Struct, frozen=True):
    """One attempt as people read it; `response` is JSON."""

    number: int
    state: str
    outcome: str | None
    reference: str
    sent_digest: bytes
    owner: str
    late: bool
    response: bytes | None
    planned_at: datetime
    sent_at: datetime | None
    answered_at: datetime | None

    @property
    def milliseconds(self) -> float | None:
        """How long the call took."""
        if self.answered_at is None:
            return None
        return round((self.answered_at - (self.sent_at or self.planned_at)).total_seconds() * 1000, 1)


class LookUpRow(Struct, frozen=True):
    """One look-up as people read it."""

    number: int
    attempt: int
    verdict: str
    response: bytes
    asked_at: datetime
    answered_at: datetime


class Tried(Struct, frozen=True):
    """What was tried for one request; its unit is None where the organisation has no such request."""

    organisation_version: int
    unit_id: int | None
    attempts: list[AttemptRow]
    look_ups: list[LookUpRow]


class IncidentRow(Struct, frozen=True):
    """One line of the list."""

    incident: Incident
    request_type: str
    host_id: str
    external_reference: str | None
