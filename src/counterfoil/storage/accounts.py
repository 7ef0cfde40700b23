"""Members' accounts, read under lock for a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import asyncpg
import msgspec
from msgspec import Struct

from counterfoil.domain.points import MemberAccount
from counterfoil.storage.database import Tx

F = TypeVar("F")
_account = msgspec.json.Decoder(MemberAccount)

# A lock statement that took longer than this may have waited: its snapshot is read again.
_WAITED_SECONDS = 0.02


class Loaded(Struct, Generic[F], frozen=True):
    """The files of a batch, in its order; `now` is the database's clock after the locks."""

    now: datetime
    organisation_version: int
    files: Sequence[F]


async def lock_and_read(tx: Tx, statement: str, *arguments: Any) -> Sequence[Any]:
    """Run a locking read; once more if it waited, because waiting does not refresh a snapshot.

    The second run holds the locks already, so it cannot wait and sees what they protect.
    """
    rows = await tx.fetch(statement, *arguments)
    if any(_has_waited(row) or _is_stale(row) for row in rows):
        rows = await tx.fetch(statement, *arguments)
    if any(_is_stale(row) for row in rows):
        # The second read came upon a row that the first did not name: start again with a clean snapshot.
        raise asyncpg.SerializationError("a row changed between lock and read")
    return rows


def _has_waited(row: Any) -> bool:
    return bool((row["now"] - row["statement_at"]).total_seconds() > _WAITED_SECONDS)


def _is_stale(row: Any) -> bool:
    return bool(row["locked_version"] != row["seen_version"] or row.get("version") != row.get("seen_request_version"))


def account_of(row: Mapping[str, Any], member_id: int | None, seen: dict[int, MemberAccount]) -> MemberAccount | None:
    """The row's member, decoded once per batch."""
    if member_id is None or row["document"] is None:
        return None
    if member_id not in seen:
        seen[member_id] = decode_account(row["document"])
    return seen[member_id]


def decode_account(document: str) -> MemberAccount:
    """The document of the view `member_account`."""
    return _account.decode(document)
