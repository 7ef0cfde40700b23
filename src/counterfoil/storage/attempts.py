"""Execution on external hosts: what is due, who has claimed it, and what became of each call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from counterfoil.domain.evidence import AttemptRow, LookUpRow, Tried
from counterfoil.domain.executions import Attempt, Execution
from counterfoil.domain.freezes import NOTHING_FROZEN, Frost
from counterfoil.storage import statements
from counterfoil.storage.database import Tx
from counterfoil.storage.requests import request_from_row

_SQL = statements.load("attempts.sql")
_attempts = msgspec.json.Decoder(tuple[Attempt, ...])


class Claim(Struct, frozen=True):
    """A request that this process has taken; whoever takes it after has a higher fence."""

    request_id: UUID
    fence: int
    host_id: str


class Locked(Struct, frozen=True):
    """The files of a batch by request; `now` is the database's clock after the locks."""

    now: datetime
    organisation_version: int
    executions: Mapping[UUID, Execution]
    incidents: Mapping[UUID, UUID]


class Oldest(Struct, frozen=True):
    """Since when the oldest requests of an organisation wait for an external host, and its open incidents."""

    approved: datetime | None
    unknown: datetime | None
    incidents: int


async def organisations_with_work(tx: Tx) -> dict[int, int]:
    """The organisations in which something is due now, each with its version."""
    return {row["org_id"]: row["version"] for row in await tx.fetch(_SQL["organisations_with_work"])}


async def organisations_with_open(tx: Tx) -> list[int]:
    """The organisations in which anything is open at an external host."""
    return [row["org_id"] for row in await tx.fetch(_SQL["organisations_with_open"])]


async def claim(
    tx: Tx,
    org_id: int,
    owner: str,
    free: Mapping[str, int],
    frozen: Frost = NOTHING_FROZEN,
    *,
    slots: int,
    lease_seconds: float,
) -> list[Claim]:
    """Take what is due and not frozen: as many of a host as it has `free` slots, `slots` of one that is not named."""
    rows = await tx.fetch(
        _SQL["claim"], org_id, owner, list(free), list(free.values()), slots, lease_seconds,
        list(frozen.units), list(frozen.types), list(frozen.makers), list(frozen.members),
    )  # fmt: skip
    return [Claim(row["request_id"], row["fence"], row["host_id"]) for row in rows]


async def extend_leases(
    tx: Tx, org_id: int, owner: str, claims: Sequence[tuple[UUID, int]], lease_seconds: float
) -> set[UUID]:
    """Keep these claims; returned are those that are still the owner's."""
    rows = await tx.fetch(_SQL["extend_leases"], org_id, owner, *zip(*claims, strict=True), lease_seconds)
    return {row["request_id"] for row in rows}


async def lock_executions(tx: Tx, org_id: int, request_ids: Sequence[UUID]) -> Locked | None:
    """Lock the requests in order, then read everything about them; None where there is none of them."""
    await tx.execute(_SQL["lock_executions"], org_id, request_ids)
    rows = await tx.fetch(_SQL["read_executions"], org_id, request_ids)
    if not rows:
        return None
    return Locked(
        max(row["now"] for row in rows),
        rows[0]["organisation_version"],
        {row["request_id"]: _execution(row) for row in rows},
        {row["request_id"]: row["incident_id"] for row in rows if row["incident_id"] is not None},
    )


def _execution(row: Any) -> Execution:
    return Execution(
        request=request_from_row(row),
        attempts=() if row["attempts"] is None else _attempts.decode(row["attempts"]),
        look_ups=row["look_ups"],
        look_ups_of_last=row["look_ups_of_last"],
        has_incident=row["incident_id"] is not None,
        sealed_headers=row["sealed_headers"],
    )


async def list_holders(
    tx: Tx, org_id: int, claims: Sequence[tuple[str, str, str]]
) -> Mapping[tuple[str, str, str], tuple[UUID, bool]]:
    """Who has claimed these references (host, type, reference), and whether that request has succeeded."""
    rows = await tx.fetch(_SQL["list_holders"], org_id, *zip(*claims, strict=True))
    return {
        (row["host_id"], row["request_type"], row["reference"]): (row["request_id"], row["succeeded"]) for row in rows
    }


async def oldest_open(tx: Tx, org_id: int) -> Oldest:
    """What has waited longest for an external host."""
    row = await tx.fetchrow(_SQL["oldest_open"], org_id)
    if row is None:
        raise AssertionError("an aggregate has one row (this is a bug)")
    return Oldest(row["approved"], row["unknown"], row["incidents"])


async def list_attempts(tx: Tx, org_id: int, request_id: UUID) -> Tried | None:
    """The attempts and look-ups of a request; None where there is no such organisation."""
    rows = await tx.fetch(_SQL["list_attempts"], org_id, request_id)
    if not rows:
        return None
    version, unit_id = rows[0]["organisation_version"], rows[0]["unit_id"]
    if unit_id is None:
        return Tried(version, None, [], [])
    made = [AttemptRow(**{name: row[name] for name in AttemptRow.__struct_fields__}) for row in rows if row["number"]]
    searched = await tx.fetch(_SQL["list_look_ups"], org_id, request_id)
    return Tried(version, unit_id, made, [LookUpRow(**dict(row)) for row in searched])
