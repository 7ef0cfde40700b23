"""Requests by what is known of them, page by page, each with why the reader can or cannot decide it."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from counterfoil.application import counting
from counterfoil.application.inbox import Listed, ListedPage
from counterfoil.application.requests import Stale
from counterfoil.domain import voices
from counterfoil.domain.access import Actor
from counterfoil.domain.inbox import Key
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.searches import DEPTHS, Search
from counterfoil.storage import searches
from counterfoil.storage.database import Pool, acquire

_LAST: Final = UUID(int=2**128 - 1)


async def search_requests(
    pool: Pool, organisation: Organisation, actor: Actor, asked: Search, *, after: Key | None, limit: int
) -> ListedPage | Stale:
    """The newest requests that fit. The work is bounded: see ListedPage."""
    place: Key = (asked.started_until, _LAST) if after is None else after
    rows: list[Listed] = []
    async with acquire(pool) as connection:
        for depth in DEPTHS:
            found = await searches.search(
                connection, organisation.org_id, asked, after=place, depth=depth, wanted=limit + 1
            )
            if found is None or found.organisation_version != organisation.version:
                return Stale(found.organisation_version if found else 0)
            pairs = await counting.read_pairs(connection, organisation, found.requests, [actor.person_id or ""])
            rows += [
                Listed(each, voices.standing(organisation, each, actor, found.now, pairs=pairs))
                for each in found.requests
            ]
            if len(rows) > limit:
                last = rows[limit - 1].request
                return ListedPage(rows[:limit], (last.started_at, last.request_id))
            if found.end is None:
                return ListedPage(rows, None)
            place = found.end
    return ListedPage(rows, place)
