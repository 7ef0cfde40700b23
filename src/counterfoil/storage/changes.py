"""What a batch changed, gathered table by table and written in one statement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any
from uuid import UUID

import msgspec

from counterfoil.domain.caps import CapBook
from counterfoil.domain.payload_types import Goodwill
from counterfoil.domain.points import Hold, Journal, MemberAccount
from counterfoil.domain.requests import Decision, Request, Submit
from counterfoil.domain.seals import Event
from counterfoil.storage import statements
from counterfoil.storage.database import Tx

_SQL = statements.load("changes.sql")
_WIDTHS = {
    "requests": 39, "changed_requests": 11, "decisions": 12, "comments": 7, "holds": 5, "hold_lots": 3,
    "changed_holds": 2, "journals": 5, "postings": 6, "redemptions": 9, "members": 4, "lots": 5, "new_lots": 9,
    "goodwills": 5, "statuses": 4, "cap_counters": 4, "cap_uses": 5, "direct_uses": 3, "freed_keys": 4, "events": 7,
    "refusals": 7, "delegations": 9, "ended_delegations": 2, "freezes": 7, "changed_freezes": 7, "versions": 1,
    "reference_claims": 4, "freed_references": 4, "attempts": 7, "answered_attempts": 7, "look_ups": 7,
    "incidents": 5, "settled_incidents": 3, "incident_voices": 9,
}  # fmt: skip
_REFERENCE = 4  # its column in a row of redemptions, and of goodwills
_REQUEST, _POINTS = 0, 2  # columns in a row of goodwills
_CHANGED_AT = 3  # the column in a row of statuses
_PARAMETER = re.compile(r"\$((?!1\b)\d+)")  # all but $1, the organisation, which every block shares
_encode = msgspec.json.Encoder(decimal_format="number").encode

# Few requirements are frozen on many requests.
_encode_requirement = lru_cache(1024)(msgspec.json.encode)


@dataclass(slots=True)
class Changes:
    """Rows to insert and update, one list per block of changes.sql, in its column order."""

    requests: list[tuple[Any, ...]] = field(default_factory=list)
    changed_requests: list[tuple[Any, ...]] = field(default_factory=list)
    decisions: list[tuple[Any, ...]] = field(default_factory=list)
    comments: list[tuple[Any, ...]] = field(default_factory=list)
    holds: list[tuple[Any, ...]] = field(default_factory=list)
    hold_lots: list[tuple[Any, ...]] = field(default_factory=list)
    changed_holds: list[tuple[Any, ...]] = field(default_factory=list)
    journals: list[tuple[Any, ...]] = field(default_factory=list)
    postings: list[tuple[Any, ...]] = field(default_factory=list)
    redemptions: list[tuple[Any, ...]] = field(default_factory=list)
    members: list[tuple[Any, ...]] = field(default_factory=list)
    lots: list[tuple[Any, ...]] = field(default_factory=list)
    new_lots: list[tuple[Any, ...]] = field(default_factory=list)
    goodwills: list[tuple[Any, ...]] = field(default_factory=list)
    statuses: list[tuple[Any, ...]] = field(default_factory=list)
    cap_counters: list[tuple[Any, ...]] = field(default_factory=list)
    cap_uses: list[tuple[Any, ...]] = field(default_factory=list)
    direct_uses: list[tuple[Any, ...]] = field(default_factory=list)
    freed_keys: list[tuple[Any, ...]] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    refusals: list[tuple[Any, ...]] = field(default_factory=list)
    delegations: list[tuple[Any, ...]] = field(default_factory=list)
    ended_delegations: list[tuple[Any, ...]] = field(default_factory=list)
    freezes: list[tuple[Any, ...]] = field(default_factory=list)
    changed_freezes: list[tuple[Any, ...]] = field(default_factory=list)
    versions: list[tuple[Any, ...]] = field(default_factory=list)
    reference_claims: list[tuple[Any, ...]] = field(default_factory=list)
    freed_references: list[tuple[Any, ...]] = field(default_factory=list)
    attempts: list[tuple[Any, ...]] = field(default_factory=list)
    answered_attempts: list[tuple[Any, ...]] = field(default_factory=list)
    look_ups: list[tuple[Any, ...]] = field(default_factory=list)
    incidents: list[tuple[Any, ...]] = field(default_factory=list)
    settled_incidents: list[tuple[Any, ...]] = field(default_factory=list)
    incident_voices: list[tuple[Any, ...]] = field(default_factory=list)

    def add_request(self, request: Request, command: Submit) -> None:
        """A request that was submitted, and perhaps executed at once."""
        place = command.place
        self.requests.append((
            request.request_id, request.request_type, request.state, request.maker_person_id, request.maker_user_id,
            request.maker_user_name, command.actor.login, command.entity_info, place.unit_id, place.till_id,
            place.store_id, place.zone_id, place.concept_id, request.points, request.member_id,
            request.identifier_kind, request.identifier_value, request.external_reference, request.host_id,
            request.host_revision, request.payload, command.sealed_headers, request.till_login, request.till_epoch,
            request.digest, request.policy_revision, request.approvals_required,
            _encode_requirement(request.requirement), ",".join(request.flags), request.duplicate_of,
            request.started_at, request.expires_at, request.resubmission_of, request.urgent_at, request.auto_rule,
            request.version, request.decided_at, request.ended_at,
            None if request.outcome is None else _encode(request.outcome),
        ))  # fmt: skip

    def change_request(self, request: Request) -> None:
        """A request whose state, version, outcome or lease moved."""
        facts = request.executed or request.outcome
        self.changed_requests.append((
            request.request_id, request.state, request.version, request.member_id, request.decided_at,
            request.ended_at, None if facts is None else _encode(facts), request.due_at,
            request.lease_owner, request.lease_until, request.fence,
        ))  # fmt: skip

    def add_decision(self, request: Request, decision: Decision) -> None:
        """One checker's voice, the last one of the request so far."""
        self.decisions.append((
            request.request_id, len(request.decisions), decision.person_id, request.maker_person_id, decision.user_id,
            decision.user_name, decision.verdict, decision.message, decision.decided_at, decision.on_behalf_of,
            decision.reason_code, decision.sent_back,
        ))  # fmt: skip

    def add_holds(self, member_id: int, holds: Iterable[Hold]) -> None:
        """Open holds are new; others were closed."""
        for hold in holds:
            if hold.state == "open":
                self.holds.append((hold.request_id, member_id, hold.points, hold.state, hold.expires_at))
                self.hold_lots.extend((hold.request_id, part.lot_id, part.points) for part in hold.allocations)
            else:
                self.changed_holds.append((hold.request_id, hold.state))

    def add_journals(self, first_id: UUID, journals: Sequence[Journal], at: datetime) -> None:
        """Journals with their postings; ids follow on from the command's own id."""
        for journal in journals:
            journal_id = UUID(int=first_id.int + len(self.journals) + 1)
            self.journals.append((journal_id, journal.kind, journal.member_id, journal.request_id, at))
            self.postings.extend(
                (journal_id, line, posting.source, posting.destination, posting.lot_id, posting.points)
                for line, posting in enumerate(journal.postings, start=1)
            )

    def change_account(self, before: MemberAccount, after: MemberAccount) -> None:
        """A member's new totals and the lots that differ; nothing when nothing moved."""
        if before is after:
            return
        unchanged = {id(lot) for lot in before.lots}
        changed = [lot for lot in after.lots if id(lot) not in unchanged]
        if not changed and before.available == after.available and before.held == after.held:
            return
        self.members.append((after.member_id, after.available, after.held, before.version + 1))
        awarded = {row[_REQUEST]: row[_POINTS] for row in self.goodwills}
        for lot in changed:
            if lot.lot_id in awarded:  # as the batch leaves it: an update of it would not see it yet
                self.new_lots.append((
                    after.member_id, lot.lot_id, f"request {lot.lot_id}", lot.awarded_at, lot.expires_at,
                    lot.grace_until, awarded[lot.lot_id], lot.remaining, lot.held,
                ))  # fmt: skip
            else:
                self.lots.append((after.member_id, lot.lot_id, lot.remaining, lot.held, lot.grace_until))

    def add_goodwill(self, request: Request, asked: Goodwill, member_id: int) -> None:
        """Points given to a member; the lot has the id of the request."""
        self.goodwills.append((
            request.request_id, member_id, asked.points, request.ended_at, asked.external_reference,
        ))  # fmt: skip

    def set_status(self, request: Request, label: str, member_id: int) -> None:
        """A member's status label; of several in one batch the latest one stays."""
        others = [row for row in self.statuses if row[0] != member_id]
        mine = [row for row in self.statuses if row[0] == member_id]
        mine.append((member_id, label, request.request_id, request.ended_at))
        self.statuses = [*others, max(reversed(mine), key=itemgetter(_CHANGED_AT))]

    def add_counted(self, book: CapBook) -> None:
        """What a batch has counted, and what counts no more."""
        self.cap_counters.extend((use.cap, use.subject, use.day, points) for use, points in book.moved())
        self.cap_uses.extend(
            (request_id, use.cap, use.subject, use.day, points) for request_id, use, points in book.new_uses
        )

    def add_event(self, event: Event) -> None:
        """One audit event."""
        self.events.append(_event_row(event))

    def add_refusal(self, event: Event) -> None:
        """The audit line of a refused access; a batch that is run again leaves it as it is."""
        self.refusals.append(_event_row(event))


def _event_row(event: Event) -> tuple[Any, ...]:
    return (
        event.subject_id, event.event_id, event.kind, event.at, event.facts, event.personal, event.leaf_hash,
    )  # fmt: skip


def _shifted(block: str, shift: int) -> str:
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + shift}", block)


@cache
def _statement(touched: tuple[str, ...]) -> str:
    """One statement of these blocks: all but the last as CTEs, each block's parameters after those before it."""
    blocks, shift = [], 0
    for name in touched:
        blocks.append(_shifted(_SQL[name], shift))
        shift += _WIDTHS[name]
    first = [f"{name} AS (\n{block}\n)" for name, block in zip(touched, blocks[:-1], strict=False)]
    return (f"WITH {', '.join(first)}\n" if first else "") + blocks[-1]


async def write(tx: Tx, org_id: int, changes: Changes) -> None:
    """Write all changes of a batch; one round trip, none when there is nothing."""
    # Two batches with the same references wait for each other's unique index: in one order they never deadlock.
    changes.redemptions.sort(key=lambda row: row[_REFERENCE] or "")
    changes.goodwills.sort(key=lambda row: row[_REFERENCE])
    changes.reference_claims.sort()
    touched = tuple(name for name in _WIDTHS if getattr(changes, name))
    if touched:
        columns = (column for name in touched for column in zip(*getattr(changes, name), strict=True))
        await tx.execute(_statement(touched), org_id, *columns)
