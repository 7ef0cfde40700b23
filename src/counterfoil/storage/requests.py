"""Requests: locked for a verb, fetched one by one, listed by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from counterfoil.domain.intouch_answers import Executed, Outcome
from counterfoil.domain.points import Hold, MemberAccount
from counterfoil.domain.request_pages import ListQuery, Page, StoredRequest
from counterfoil.domain.requests import FINAL, Decide, Decision, Request, State, Submit
from counterfoil.domain.seals import Event
from counterfoil.storage import statements
from counterfoil.storage.accounts import Loaded, account_of, lock_and_read
from counterfoil.storage.database import Tx

_SQL = statements.load("requests.sql")
_hold = msgspec.json.Decoder(Hold)
_decisions = msgspec.json.Decoder(tuple[Decision, ...])
_outcome = msgspec.json.Decoder(Outcome)
_EXECUTED = b'{"by":'  # how the outcome of an external host begins
_executed = msgspec.json.Decoder(Executed)


@dataclass(frozen=True, slots=True)
class SubmissionFile:
    """What the database knows about one create command, under lock."""

    account: MemberAccount | None
    already_written: bool
    duplicate_of: UUID | None
    key_request_id: UUID | None
    key_digest: bytes | None


@dataclass(frozen=True, slots=True)
class DecisionFile:
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
                    each.redemption.identifier_kind,
                    each.redemption.identifier_value,
                    each.redemption.external_reference,
                    each.host_id,
                    each.actor.login,
                    each.idempotency_key,
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
        )
        for row in (by_id[each.request_id] for each in commands)
    ]
    return Loaded(max(row["now"] for row in rows), rows[0]["organisation_version"], files)


async def lock_for_decision(tx: Tx, org_id: int, commands: Sequence[Decide]) -> Loaded[DecisionFile]:
    """Lock the requests that the commands name, then their members, and read each command's file."""
    arguments = list(
        zip(
            *((each.decision_id, each.request_id, *each.redemption_ids) for each in commands),
            strict=True,
        )
    )
    rows = await lock_and_read(tx, _SQL["lock_for_decision"], org_id, *arguments)
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
        for row in (by_id[each.decision_id] for each in commands)
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
        decided_at=row["decided_at"],
        ended_at=row["ended_at"],
        outcome=None if executed or row["outcome"] is None else _outcome.decode(row["outcome"]),
        decisions=() if row["decisions"] is None else _decisions.decode(row["decisions"]),
        due_at=row["due_at"],
        lease_owner=row["lease_owner"],
        lease_until=row["lease_until"],
        fence=row["fence"],
        executed=_executed.decode(row["outcome"]) if executed else None,
    )


async def fetch_request(tx: Tx, org_id: int, request_id: UUID) -> StoredRequest | None:
    """One request of the organisation (`request` None when there is none); None for an unknown organisation."""
    row = await tx.fetchrow(_SQL["fetch_request"], org_id, request_id)
    if row is None:
        return None
    if row["request_id"] is None:
        return StoredRequest(row["organisation_version"], None, b"", b"")
    return StoredRequest(row["organisation_version"], request_from_row(row), row["sealed_headers"], row["entity_info"])


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
    )
    if not rows:
        return None
    version, total = rows[0]["organisation_version"], rows[0]["total"]
    found = [
        StoredRequest(version, request_from_row(row), row["sealed_headers"], row["entity_info"])
        for row in rows
        if row["request_id"] is not None
    ]
    return Page(version, total, found)


async def list_events(tx: Tx, org_id: int, request_id: UUID) -> tuple[int, list[Event]] | None:
    """The organisation's version and the audit trail of one request, in order."""
    rows = await tx.fetch(_SQL["list_events"], org_id, request_id)
    if not rows:
        return None
    return rows[0]["organisation_version"], [
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
