"""What a person can decide now, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from counterfoil.application import counting
from counterfoil.application.requests import Stale
from counterfoil.domain import voices
from counterfoil.domain.access import Actor
from counterfoil.domain.inbox import ROUNDS_MAX, START, Key, plan_look
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.reach import reach
from counterfoil.domain.refusals import Refusal
from counterfoil.domain.requests import Request
from counterfoil.storage import inbox
from counterfoil.storage.database import Pool, acquire


class Listed(Struct, frozen=True):
    """A request in a list, and why the reader cannot decide it; None when they can."""

    request: Request
    refused: Refusal | None


class ListedPage(Struct, frozen=True):
    """One page; `next_key` is None on the last one. A page may be shorter than asked for, even empty, before that."""

    rows: Sequence[Listed]
    next_key: Key | None


async def list_inbox(
    pool: Pool, organisation: Organisation, actor: Actor, *, after: Key | None, limit: int, now: datetime
) -> ListedPage | Stale:
    """The most urgent requests that the actor can decide. The work is bounded: see ListedPage."""
    person_id = actor.person_id or ""
    reached = reach(organisation, person_id, now)
    place = START if after is None else after
    rows: list[Listed] = []
    wanted = limit + 1
    async with acquire(pool) as connection:
        for number in range(ROUNDS_MAX):
            found = await inbox.list_candidates(
                connection, organisation.org_id, reached, person_id, after=place, wanted=wanted,
                look=plan_look(reached, len(organisation.units), wanted, number),
            )  # fmt: skip
            if found is None or found.organisation_version != organisation.version:
                return Stale(found.organisation_version if found else 0)
            pairs = await counting.read_pairs(connection, organisation, found.requests, [person_id])
            rows += [
                Listed(each, None)
                for each in found.requests
                if voices.standing(organisation, each, actor, found.now, pairs=pairs) is None
            ]
            if len(rows) > limit:
                last = rows[limit - 1].request
                return ListedPage(rows[:limit], (last.urgent_at, last.request_id))
            if found.end is None:
                return ListedPage(rows, None)
            place = found.end
    return ListedPage(rows, place)
