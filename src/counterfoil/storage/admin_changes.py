"""Requests of the type ADMIN-CHANGE: proposed, read, locked for a decision and ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from counterfoil.domain.admin_changes import SUSPENSION, AdminChange, DecidedChange, Propose, settings_after
from counterfoil.domain.organisation_changes import Difference
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.requests import Decision, State
from counterfoil.storage import administration, statements
from counterfoil.storage.database import Tx

_SQL = statements.load("admin_changes.sql")
_ADMINISTRATION = statements.load("administration.sql")
_difference = msgspec.json.Decoder(Difference)
_decisions = msgspec.json.Decoder(tuple[Decision, ...])


class Summary(msgspec.Struct):
    """What a list shows of a change, kept beside the difference."""

    message: str
    baseVersion: int  # noqa: N815 - as our own API spells it
    added: int
    changed: int
    removed: int


_summary = msgspec.json.Decoder(Summary)


class Stored(Struct, frozen=True):
    """What a read found: the versions and the time to judge the reader by, and the change, if there is one."""

    organisation_version: int
    now: datetime
    change: AdminChange | None


class Listed(Struct, frozen=True):
    """One line of a list of changes."""

    request_id: UUID
    state: str
    maker_person_id: str
    maker_user_name: str
    summary: Summary
    started_at: datetime
    ended_at: datetime | None


class ChangePage(Struct, frozen=True):
    """A page of changes, and what to judge its reader by."""

    organisation_version: int
    now: datetime
    changes: Sequence[Listed]


def proposed(command: Propose, now: datetime) -> tuple[AdminChange, bytes, bytes]:
    """The change that a proposal becomes, and what is stored of it: the summary and the difference."""
    if command.difference is None:
        raise AssertionError("a proposal without a difference is refused before (this is a bug)")
    payload = msgspec.json.encode(command.difference)
    signs = [change.sign for change in command.difference.records]
    signs += ["+" if member.is_new else "~" for member in command.difference.members]
    summary = msgspec.json.encode(
        Summary(command.message, command.base_version, signs.count("+"), signs.count("~"), signs.count("-"))
    )
    actor = command.actor
    change = AdminChange(
        request_id=command.request_id,
        state=State.PENDING,
        maker_person_id=actor.person_id or "",
        maker_user_id=actor.user_id,
        maker_user_name=actor.user_name,
        message=command.message,
        base_version=command.base_version,
        difference=command.difference,
        digest=sha256(b"%d|%b|%b" % (len(summary), summary, payload)).digest(),
        started_at=now,
    )
    return change, summary, payload


async def insert(tx: Tx, org_id: int, login: str, change: AdminChange, summary: bytes, payload: bytes) -> None:
    """Store a proposed change."""
    await tx.execute(
        _SQL["insert_change"], org_id, change.request_id, change.maker_person_id, change.maker_user_id,
        change.maker_user_name, login, summary, payload, change.digest, change.started_at,
    )  # fmt: skip


async def fetch(tx: Tx, org_id: int, request_id: UUID) -> Stored | None:
    """One change of the organisation (`change` None where there is none); None for an unknown organisation."""
    row = await tx.fetchrow(_SQL["fetch_change"], org_id, request_id)
    if row is None:
        return None
    return Stored(row["organisation_version"], row["now"], None if row["request_id"] is None else _change(row))


def _change(row: Any) -> AdminChange:
    summary = _summary.decode(row["entity_info"])
    difference: Difference | None = None
    with suppress(msgspec.ValidationError):  # stored by another version of the program
        difference = _difference.decode(row["payload"])
    return AdminChange(
        request_id=row["request_id"],
        state=State(row["state"]),
        maker_person_id=row["maker_person_id"],
        maker_user_id=row["maker_user_id"],
        maker_user_name=row["maker_user_name"],
        message=summary.message,
        base_version=summary.baseVersion,
        difference=difference,
        digest=row["digest"],
        started_at=row["started_at"],
        version=row["version"],
        ended_at=row["ended_at"],
        decisions=() if row["decisions"] is None else _decisions.decode(row["decisions"]),
    )


async def lock(tx: Tx, org_id: int, request_id: UUID, decision_id: UUID) -> tuple[Stored, bool]:
    """Lock the organisation, then the change; what is there then, and whether this voice is written already."""
    await tx.execute(_ADMINISTRATION["lock_organisation"], org_id)
    await tx.execute(_SQL["lock_change"], org_id, request_id)
    stored = await fetch(tx, org_id, request_id)
    written = await tx.fetchval(_SQL["is_written"], org_id, request_id, decision_id)
    if stored is None:
        raise AssertionError("the organisation of a verified caller went away (this is a bug)")
    return stored, bool(written)


async def page(
    tx: Tx, org_id: int, *, state: str | None, after: tuple[datetime, UUID] | None, limit: int
) -> ChangePage | None:
    """A page of changes, the newest first; None for an unknown organisation."""
    at, request_id = after or (None, None)
    rows = await tx.fetch(_SQL["list_changes"], org_id, state, at, request_id, limit)
    if not rows:
        return None
    return ChangePage(
        rows[0]["organisation_version"],
        rows[0]["now"],
        [
            Listed(
                row["request_id"], row["state"], row["maker_person_id"], row["maker_user_name"],
                _summary.decode(row["entity_info"]), row["started_at"], row["ended_at"],
            )
            for row in rows
            if row["request_id"] is not None
        ],
    )  # fmt: skip


async def end(
    tx: Tx, organisation: Organisation, decided: DecidedChange, now: datetime, new_id: Callable[[], Any]
) -> None:
    """Write the voice and, where it approves, the difference: all in this transaction."""
    change, decision, org_id = decided.change, decided.decision, organisation.org_id
    outcome = None
    if decided.difference is not None:
        try:
            settings = settings_after(organisation, decided.difference)
            await administration.write(tx, settings, decided.difference, now, new_id)
        except administration.LoginTaken as taken:
            # Another organisation has just claimed a login: decided again, the rules see that.
            raise asyncpg.SerializationError(f"taken meanwhile: {taken}") from None
        if decided.suspended:
            await tx.execute(_SQL["suspend"], org_id, list(decided.suspended), now + SUSPENSION)
        if decided.taken_back:
            lent = [each.delegation_id for each in decided.taken_back]
            await tx.execute(_SQL["take_back"], org_id, lent, now)
        if decided.issuers:
            await tx.execute(_SQL["hold_back_issuers"], org_id, list(decided.issuers), now + SUSPENSION)
        outcome = b'{"version":%d}' % decided.difference.version
    await tx.execute(
        _SQL["end_change"], org_id, change.request_id, change.state, change.version, change.ended_at, outcome
    )
    await tx.execute(
        _SQL["insert_decision"], org_id, change.request_id, decision.person_id, change.maker_person_id,
        decision.user_id, decision.user_name, decision.verdict, decision.message, decision.decided_at,
    )  # fmt: skip
