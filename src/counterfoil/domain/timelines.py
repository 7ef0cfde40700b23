"""What happened to a request, in order, for people to read: made from the audit events alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from counterfoil.domain.evidence import Tried
from counterfoil.domain.seals import Event

# Who an event may name, under which of its personal fields; the first that is there acted.
ROLES: Final = ("checker", "actor", "maker", "person", "operator")
_OF_EVERY_EVENT: Final = frozenset({"at", "event", "kind", "subject", "org"})


class Entry(Struct, frozen=True):
    """One line. `who` and `message` are None where the event has none, or where they were erased.

    What is no event, but a call or a look-up at an external host, has no `event_id`.
    """

    event_id: UUID | None
    kind: str
    at: datetime
    who: str | None
    message: str | None
    facts: Mapping[str, Any]


def entries(events: Iterable[Event]) -> Iterator[Entry]:
    """A line for each event, whatever its kind: a kind that comes later needs no change here."""
    for event in events:
        personal: dict[str, str] = json.loads(event.personal) if event.personal else {}
        facts = {
            name: value
            for name, value in json.loads(event.facts).items()
            if name not in _OF_EVERY_EVENT and not name.endswith("#")
        }
        who = next((personal[role] for role in ROLES if role in personal), None)
        yield Entry(event.event_id, event.kind, event.at, who, personal.get("message"), facts)


def calls(tried: Tried) -> Iterator[Entry]:
    """A line for each call and look-up, at the moment at which it began."""
    for each in tried.attempts:
        facts = {"number": each.number, "state": each.state, "outcome": each.outcome, "late": each.late,
                 "milliseconds": each.milliseconds, "executor": each.owner}  # fmt: skip
        yield Entry(None, "attempt", each.sent_at or each.planned_at, None, None, facts)
    for found in tried.look_ups:
        took = round((found.answered_at - found.asked_at).total_seconds() * 1000, 1)
        facts = {"number": found.number, "attempt": found.attempt, "verdict": found.verdict, "milliseconds": took}
        yield Entry(None, "look_up", found.asked_at, None, None, facts)
