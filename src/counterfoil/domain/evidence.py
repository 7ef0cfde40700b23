"""What people read of an execution outside: each attempt, each look-up, each incident."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from counterfoil.domain.incidents import Incident


@dataclass(frozen=True, slots=True)
class AttemptRow:
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


@dataclass(frozen=True, slots=True)
class LookUpRow:
    """One look-up as people read it."""

    number: int
    attempt: int
    verdict: str
    response: bytes
    asked_at: datetime
    answered_at: datetime


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """One line of the list."""

    incident: Incident
    request_type: str
    host_id: str
    external_reference: str | None
