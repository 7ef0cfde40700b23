"""The inbox: the most urgent pending requests that a person's rights reach."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from counterfoil.domain.inbox import Found, Key, Look
from counterfoil.domain.reach import Reach
from counterfoil.storage import statements
from counterfoil.storage.database import Tx
from counterfoil.storage.requests import end_of_time, request_from_row

_SQL = statements.load("inbox.sql")


async def list_candidates(
    tx: Tx, org_id: int, reach: Reach, person_id: str, *, after: Key, wanted: int, look: Look
) -> Found | None:
    """At most `wanted` requests behind `after`, not made or voted on by the person; None for no organisation."""
    arguments: list[Any] = [
        list(reach.units), list(reach.units.values()), *after, person_id,
        None if reach.types is None else list(reach.types), wanted, look.depth, reach.is_lent,
    ]  # fmt: skip
    if not look.by_unit:
        arguments.append(reach.everywhere)
    rows = await tx.fetch(_SQL["probe_inbox" if look.by_unit else "walk_inbox"], org_id, *arguments)
    if not rows:
        return None
    first = rows[0]
    cut: Key | None = None if first["cut_id"] is None else (end_of_time(first["cut_at"]), first["cut_id"])
    found = [request_from_row(row) for row in rows if row["request_id"] is not None]
    end = cut
    if len(found) == wanted:  # there may be more that fit before the cut
        last = (found[-1].urgent_at, found[-1].request_id)
        end = last if cut is None else min(cut, last)
    if end is not None:
        found = [each for each in found if (each.urgent_at, each.request_id) <= end]
    now: datetime = first["now"]
    return Found(first["organisation_version"], now, found, end)
