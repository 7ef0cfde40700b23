"""The search: requests that fit closed filters, newest first, each filter by an index."""

from __future__ import annotations

from typing import Final

from counterfoil.domain.inbox import Found, Key
from counterfoil.domain.searches import Search, Way
from counterfoil.storage import statements
from counterfoil.storage.database import Tx
from counterfoil.storage.requests import request_from_row

_SQL = statements.load("searches.sql")
_ONLY: Final = {
    Way.REFERENCE: "AND r.external_reference = $11",
    Way.MAKER: "AND r.maker_person_id = $15",
    Way.OPEN: "AND r.ended_at IS NULL",
    Way.START: "",
}
_WAYS_IN: Final = {
    **{way: _SQL["way_in"].replace("{only}", only) for way, only in _ONLY.items()},
    Way.CHECKER: _SQL["way_in_by_checker"],
    Way.MEMBER: _SQL["way_in_by_member"],
}
STATEMENTS: Final = {way: _SQL["search_requests"].replace("    {way}", text) for way, text in _WAYS_IN.items()}


async def search(tx: Tx, org_id: int, asked: Search, *, after: Key, depth: int, wanted: int) -> Found | None:
    """At most `wanted` of the `depth` newest requests behind `after`; None for no organisation."""
    kind, value = asked.identifier or (None, None)
    rows = await tx.fetch(
        STATEMENTS[asked.way], org_id, *after, depth, wanted, asked.started_from, asked.started_until,
        asked.states, asked.request_type, asked.units, asked.reference, asked.member_id, kind, value,
        asked.maker, asked.checker,
    )  # fmt: skip
    if not rows:
        return None
    first = rows[0]
    found = [request_from_row(row) for row in rows if row["request_id"] is not None]
    end: Key | None = None if first["cut_id"] is None else (first["cut_at"], first["cut_id"])
    if len(found) == wanted:  # there may be more that fit before the cut
        end = (found[-1].started_at, found[-1].request_id)
    return Found(first["organisation_version"], first["now"], found, end)
