"""Delegations: read under the organisation's lock for a batch, listed by page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from counterfoil.domain.organisations import Delegation
from counterfoil.storage import statements
from counterfoil.storage.accounts import Loaded
from counterfoil.storage.database import Tx

_SQL = statements.load("delegations.sql")


class DelegationFile(Struct, frozen=True):
    """What the database knows about one command, under lock; `earlier` counts its delegator's others."""

    delegation: Delegation | None
    already_written: bool
    earlier: int


class DelegationPage(Struct, frozen=True):
    """Some delegations, and the time by which they are over or not."""

    organisation_version: int
    now: datetime
    delegations: Sequence[Delegation]


async def lock_and_read(tx: Tx, org_id: int, named: Sequence[tuple[UUID, UUID, str]]) -> Loaded[DelegationFile]:
    """Lock the organisation, then read each command's file; named are its id, the delegation's and the delegator."""
    await tx.execute(_SQL["lock_organisation_for_delegations"], org_id)
    rows = await tx.fetch(_SQL["read_for_delegations"], org_id, *zip(*named, strict=True))
    by_id = {row["command_id"]: row for row in rows}
    files = [
        DelegationFile(_delegation(row), row["already_written"], row["earlier"])
        for row in (by_id[command_id] for command_id, *_ in named)
    ]
    return Loaded(max(row["now"] for row in rows), rows[0]["organisation_version"], files)


async def list_delegations(
    tx: Tx, org_id: int, person_id: str | None, after: UUID | None, limit: int, *, past: bool
) -> DelegationPage | None:
    """A page of delegations, newest first; None for an unknown organisation."""
    rows = await tx.fetch(_SQL["list_delegations"], org_id, person_id, after, past, limit)
    if not rows:
        return None
    found = [each for each in map(_delegation, rows) if each is not None]
    return DelegationPage(rows[0]["organisation_version"], rows[0]["now"], found)


def _delegation(row: Any) -> Delegation | None:
    if row["delegation_id"] is None:
        return None
    return Delegation(
        delegation_id=row["delegation_id"],
        delegator_id=row["delegator_id"],
        delegate_id=row["delegate_id"],
        valid_from=row["valid_from"],
        valid_until=row["valid_until"],
        unit_id=row["unit_id"],
        request_type=row["request_type"],
        points_max=row["points_max"],
        made_at=row["made_at"],
        ended_at=row["ended_at"],
    )
