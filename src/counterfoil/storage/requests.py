"""Requests: locked for a verb, fetched one by one, listed by page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from counterfoil.domain.intouch_answers import Executed, Outcome
from counterfoil.domain.points import FOREVER, Hold, MemberAccount
from counterfoil.domain.policies import Need, Requirement
from counterfoil.domain.request_pages import ListQuery, Page, StoredRequest, Trail
from counterfoil.domain.requests import FINAL, Decide, Decision, Request, State, Submit, as_of
from counterfoil.domain.resubmissions import Earlier
from counterfoil.domain.seals import Event
from counterfoil.storage import statements
from counterfoil.storage.accounts import Loaded, account_of, lock_and_read
from counterfoil.storage.database import Tx

_SQL = statements.load("requests.sql")
_hold = msgspec.json.Decoder(Hold)
_decisions = msgspec.json.Decoder(tuple[Decision, ...])
# The first storey froze a list of needs, each with a right.
_requirements = msgspec.json.Decoder(Requirement | tuple[Need, ...])


@lru_cache(1024)
def _requirement(document: bytes) -> Requirement:
    """A frozen requirement; few are frozen on many requests."""
    read = _requirements.decode(document)
    return read if isinstance(read, Requirement) else Requirement(read)


_outcome = msgspec.json.Decoder(Outcome)
_EXECUTED = b'{"by":'  # how the outcome of an external host begins
_executed = msgspec.json.Decoder(Executed)


class SubmissionFile(Struct, frozen=True):
    """What the database knows about one create command, under lock."""

    account: MemberAccount | None
    already_written: bool
    duplicate_of: UUID | None
    key_request_id: UUID | None
    key_digest: bytes | None
    earlier: Earlier | None


class DecisionFile(Struct, frozen=True):
    """What the database knows about one decide command, under lock."""

    request: Request | None
    account: MemberAccount | None
    hold: Hold | None
    already_written: bool
    reference_used: bool
    redemption_id: str


async def insert_idempotency_keys(tx: Tx, org_id: int, rows: Sequence[tuple[str, str, str, bytes, UUID]]) -> None:
    """Take keys: (caller, path, key, digest, request_id). Waits for a key in flight elsewhere."""
    await tx.execute(_SQL["insert_idempotency_keys"], org_id, *zip(*rows, strict=True))


async def lock_for_submission(tx: Tx, org_id: int, commands: Sequence[Submit], path: str) -> Loaded[SubmissionFile]:
    """Lock the members that the commands name and read each command's file."""
    arguments = list(
        zip(
            *(
                (
                    each.request_id,
                    each.request_type,
                    each.asked.identifier_kind,
                    each.asked.identifier_value,
                    each.asked.external_reference,
                    each.host_id,
                    each.actor.login,
                    each.idempotency_key,
                    each.resubmission_of,
                )
                for each in commands
            ),
            strict=True,
        )
    )
    rows = await lock_and_read(tx, _SQL["lock_for_submission"], org_id, *arguments, path)
    by_id = {row["request_id"]: row for row in rows}
    accounts: dict[int, MemberAccount] = {}
    files = [
        SubmissionFile(
            account_of(row, row["member_id"], accounts),
            row["already_written"],
            row["duplicate_of"],
            row["key_request_id"],
            row["key_digest"],
            _earlier(row),
        )
        for row in (by_id[each.request_id] for each in commands)
    ]
    return Loaded(max(row["now"] for row in rows), rows[0]["organisation_version"], files)


def _earlier(row: Any) -> Earlier | None:
    if row["before_state"] is None:
        return None
    return Earlier(
        row["before_type"],
        State(row["before_state"]),
        row["before_maker"],
        row["before_expires_at"],
        row["resubmitted_as"],
    )


async def lock_for_decision(tx: Tx, org_id: int, commands: Sequence[Decide]) -> Loaded[DecisionFile]:
    """Lock the requests that the commands name, then their members, and read each command's file."""
    return await _lock(tx, org_id, [(each.decision_id, each.request_id, *each.redemption_ids) for each in commands])


async def lock_for_ending(tx: Tx, org_id: int, named: Sequence[tuple[UUID, UUID]]) -> Loaded[DecisionFile]:
    """The same for what ends requests without executing them; named are each command's own id and its request's."""
    return await _lock(tx, org_id, [(command_id, request_id, "", "") for command_id, request_id in named])


async def _lock(tx: Tx, org_id: int, asked: Sequence[tuple[object, ...]]) -> Loaded[DecisionFile]:
    rows = await lock_and_read(tx, _SQL["lock_for_decision"], org_id, *zip(*asked, strict=True))
    by_id = {row["decision_id"]: row for row in rows}
    accounts: dict[int, MemberAccount] = {}
    files = [
        DecisionFile(
            None if row["request_id"] is None else request_from_row(row),
            account_of(row, row["account_member_id"], accounts),
            None if row["hold"] is None else _hold.decode(row["hold"]),
            row["already_written"],
            row["reference_used"],
            row["redemption_id"],
        )
        for row in (by_id[command_id] for command_id, *_ in asked)
    ]
    return Loaded(max(row["now"] for row in rows), rows[0]["organisation_version"], files)


def request_from_row(row: Any) -> Request:
    """A row of `request`, with its voices where the statement reads them."""
    executed = row["outcome"] is not None and row["outcome"].startswith(_EXECUTED)
    return Request(
        request_id=row["request_id"],
        request_type=row["request_type"],
        state=State(row["state"]),
        maker_person_id=row["maker_person_id"],
        maker_user_id=row["maker_user_id"],
        maker_user_name=row["maker_user_name"],
        unit_id=row["unit_id"],
        points=row["points"],
        host_id=row["host_id"],
        host_revision=row["host_revision"],
        payload=row["payload"],
        digest=row["digest"],
        approvals_required=row["approvals_required"],
        started_at=row["started_at"],
        version=row["version"],
        member_id=row["member_id"],
        identifier_kind=row["identifier_kind"] or "",
        identifier_value=row["identifier_value"] or "",
        external_reference=row["external_reference"],
        till_login=row["till_login"],
        till_epoch=row["till_epoch"],
        flags=tuple(row["flags"]),
        duplicate_of=row["duplicate_of"],
        expires_at=row["expires_at"],
        resubmission_of=row["resubmission_of"],
        decided_at=row["decided_at"],
        ended_at=row["ended_at"],
        outcome=None if executed or row["outcome"] is None else _outcome.decode(row["outcome"]),
        policy_revision=row["policy_revision"],
        requirement=_requirement(row["requirement"]),
        auto_rule=row["auto_rule"],
        decisions=() if row["decisions"] is None else _decisions.decode(row["decisions"]),
        urgent_at=end_of_time(row["urgent_at"]),
        due_at=row["due_at"],
        lease_owner=row["lease_owner"],
        lease_until=row["lease_until"],
        fence=row["fence"],
        executed=_executed.decode(row["outcome"]) if executed else None,
    )


def end_of_time(at: datetime) -> datetime:
    """A time that may be infinity, which the driver gives without a zone."""
    return FOREVER if at.tzinfo is None else at


async def fetch_request(tx: Tx, org_id: int, request_id: UUID) -> StoredRequest | None:
    """One request of the organisation (`request` None when there is none); None for an unknown organisation."""
    row = await tx.fetchrow(_SQL["fetch_request"], org_id, request_id)
    if row is None:
        return None
    if row["request_id"] is None:
        return StoredRequest(row["organisation_version"], None, b"", b"")
    return _stored(row, row["resubmitted_as"])


def _stored(row: Any, resubmitted_as: UUID | None = None) -> StoredRequest:
    """As it stands now: what time has decided is so, whether or not the sweep has written it down."""
    return StoredRequest(
        row["organisation_version"],
        as_of(request_from_row(row), row["now"]),
        row["sealed_headers"],
        row["entity_info"],
        resubmitted_as,
    )


async def has_overdue(tx: Tx, org_id: int) -> bool:
    """Whether the time of any pending request is over."""
    return bool(await tx.fetchval(_SQL["has_overdue"], org_id))


async def claim_overdue(tx: Tx, org_id: int, count_max: int) -> list[UUID]:
    """Lock pending requests whose time is over, with their members; none that somebody else has locked."""
    return [row["request_id"] for row in await tx.fetch(_SQL["claim_overdue"], org_id, count_max)]


async def oldest_pending(tx: Tx, org_id: int) -> datetime | None:
    """When the oldest open request was submitted."""
    started_at: datetime | None = await tx.fetchval(_SQL["oldest_pending"], org_id)
    return started_at


_ORDERS = {
    ("startDate", True): "started_at, request_id",
    ("startDate", False): "started_at DESC, request_id DESC",
    ("endDate", True): "ended_at NULLS LAST, request_id",
    ("endDate", False): "ended_at DESC NULLS LAST, request_id DESC",
}
_LISTS = {
    (order, only_open): _SQL["list_requests"]
    .replace("{order}", text)
    .replace("{only_open}", "AND r.ended_at IS NULL" if only_open else "")
    for order, text in _ORDERS.items()
    for only_open in (True, False)
}


async def list_requests(tx: Tx, org_id: int, query: ListQuery) -> Page | None:
    """One page and the exact total; None for an unknown organisation."""
    only_open = not FINAL.intersection(query.states)
    rows = await tx.fetch(
        _LISTS[(query.sort_by, query.ascending), only_open],
        org_id,
        query.states,
        query.request_type,
        query.maker_user_id,
        query.till_id,
        query.store_id,
        query.zone_id,
        query.concept_id,
        query.started_from,
        query.started_until,
        query.limit,
        query.offset,
        query.readable,
    )
    if not rows:
        return None
    version, total = rows[0]["organisation_version"], rows[0]["total"]
    found = [_stored(row) for row in rows if row["request_id"] is not None]
    return Page(version, total, found)


async def list_events(tx: Tx, org_id: int, request_id: UUID) -> Trail | None:
    """The audit trail of one request, in order; None for an unknown organisation."""
    rows = await tx.fetch(_SQL["list_events"], org_id, request_id)
    if not rows:
        return None
    events = [
        Event(
            request_id,
            row["event_id"],
            row["kind"],
            row["at"],
            row["facts"],
            row["personal"],
            row["leaf_hash"],
        )
        for row in rows
        if row["event_id"] is not None
    ]
    return Trail(rows[0]["organisation_version"], rows[0]["request_type"], rows[0]["unit_id"], events)


async def read_for_execution(
    tx: Tx, org_id: int, asked: Sequence[tuple[UUID, str, str | None, str, str]]
) -> dict[UUID, tuple[bool, str]]:
    """For (request_id, type, reference, two redemption ids): whether the reference is used, and which id is free."""
    rows = await tx.fetch(_SQL["read_for_execution"], org_id, *zip(*asked, strict=True))
    return {row["request_id"]: (row["reference_used"], row["redemption_id"]) for row in rows}
