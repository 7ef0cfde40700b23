"""Freezes: read under the organisation's lock for a batch, listed by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct
from msgspec.structs import fields

from counterfoil.domain.organisations import Freeze
from counterfoil.storage import statements
from counterfoil.storage.accounts import Loaded
from counterfoil.storage.database import Tx

_SQL = statements.load("freezes.sql")
_COLUMNS = tuple(each.name for each in fields(Freeze))


class FreezeFile(Struct, frozen=True):
    """What the database knows about one command, under lock."""

    freeze: Freeze | None
    already_written: bool


class FreezePage(Struct, frozen=True):
    """Some freezes."""

    organisation_version: int
    freezes: Sequence[Freeze]


async def lock_and_read(tx: Tx, org_id: int, named: Sequence[tuple[UUID, UUID]]) -> Loaded[FreezeFile]:
    """Lock the organisation, then read each command's file; named are its own id and the freeze's."""
    await tx.execute(_SQL["lock_organisation_for_freezes"], org_id)
    rows = await tx.fetch(_SQL["read_for_freezes"], org_id, *zip(*named, strict=True))
    by_id = {row["command_id"]: row for row in rows}
    files = [FreezeFile(_freeze(row), row["already_written"]) for row in (by_id[command_id] for command_id, _ in named)]
    return Loaded(max(row["now"] for row in rows), rows[0]["organisation_version"], files)


async def list_freezes(tx: Tx, org_id: int, after: UUID | None, limit: int, *, past: bool) -> FreezePage | None:
    """A page of freezes, newest first; None for an unknown organisation."""
    rows = await tx.fetch(_SQL["list_freezes"], org_id, after, past, limit)
    if not rows:
        return None
    return FreezePage(rows[0]["organisation_version"], [each for each in map(_freeze, rows) if each is not None])


def _freeze(row: Any) -> Freeze | None:
    return None if row["freeze_id"] is None else Freeze(**{name: row[name] for name in _COLUMNS})
