"""The inbox is exactly the pending requests that the rule of the write path lets a person decide, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterfoil.application import ids, inbox, searches
from counterfoil.application.inbox import ListedPage
from counterfoil.domain import inbox as rules
from counterfoil.domain import voices
from counterfoil.domain.inbox import Key, Look
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.points import FOREVER
from counterfoil.domain.requests import Request, State
from counterfoil.domain.searches import Search
from counterfoil.storage import database
from counterfoil.storage.requests import request_from_row
from tests.builders import actor_of, connect, fetch_organisation, seed_organisation

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ZONES, STORES, TILLS = range(1, 3), range(11, 15), range(101, 109)
UNITS = (*ZONES, *STORES, *TILLS)
PEOPLE = [f"P{number}" for number in range(4)]
TYPES = ("POINTS-REDEMPTION", "GOODWILL-POINTS")
PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)
_org_ids = count(51300)


@dataclass(frozen=True)
class AGrant:
    person: str
    unit: int | None
    right: str
    kind: str | None
    points_max: int | None
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True)
class ARequest:
    unit: int
    maker: str
    points: int
    kind: str
    state: str
    urgent_at: datetime
    voices: frozenset[str] = field(default_factory=frozenset)


people = st.sampled_from(PEOPLE)
grants = st.builds(
    AGrant,
    person=people,
    unit=st.sampled_from((None, *UNITS, *UNITS)),
    right=st.sampled_from(("CanCheckRequest", "CanCheckRequest", "CanCheckRequest", "CanMakeRequest")),
    kind=st.sampled_from((None, None, *TYPES)),
    points_max=st.sampled_from((None, None, 50_000, 100_000)),
    since=st.sampled_from((None, None, PAST, FUTURE)),
    until=st.sampled_from((None, None, FUTURE, PAST)),
)
requests = st.builds(
    ARequest,
    unit=st.sampled_from((*TILLS, *TILLS, *UNITS)),
    maker=people,
    points=st.sampled_from((10_000, 50_000, 75_000, 100_000, 200_000)),
    kind=st.sampled_from((TYPES[0], *TYPES)),
    state=st.sampled_from(("pending", "pending", "pending", "rejected", "approved")),
    urgent_at=st.sampled_from((FOREVER, FOREVER, NOW, NOW + timedelta(days=1), NOW - timedelta(days=1))),
    voices=st.frozensets(people, max_size=2),
)


async def build(connection: Any, org_id: int, given_grants: list[AGrant], made: list[ARequest]) -> Organisation:
    await seed_organisation(connection, org_id)
    units = [
        *((zone, "zone", None, None, None) for zone in ZONES),
        *((store, "store", ZONES[store % 2], 50678331, None) for store in STORES),
        *((till, "till", None, None, STORES[till % 4]) for till in TILLS),
    ]
    await connection.executemany(
        "INSERT INTO org_unit (org_id, unit_id, kind, name, zone_parent_id, concept_parent_id, store_id) "
        "VALUES ($1, $2, $3, $3, $4, $5, $6)",
        [(org_id, *unit) for unit in units],
    )
    for number, person in enumerate(PEOPLE):
        await connection.execute("INSERT INTO person VALUES ($1, $2, $2, $3)", org_id, person, number != 3)
        await connection.execute(
            "INSERT INTO app_user (org_id, user_id, user_name, person_id) VALUES ($1, $2, $3, $3)",
            org_id, 900 + number, person,
        )  # fmt: skip
    await connection.executemany(
        "INSERT INTO access_grant (org_id, grant_id, person_id, unit_id, access_right, request_type, points_max, "
        "valid_from, valid_until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        [(org_id, ids.uuid7(), g.person, g.unit, g.right, g.kind, g.points_max, g.since, g.until)
         for g in given_grants],
    )  # fmt: skip
    rows = [(ids.uuid7(), each, sorted(each.voices - {each.maker})) for each in made]
    await connection.executemany(
        "INSERT INTO request (org_id, request_id, request_type, state, version, maker_person_id, maker_user_id, "
        "maker_user_name, maker_login, entity_info, unit_id, points, identifier_kind, identifier_value, host_id, "
        "host_revision, payload, sealed_headers, digest, policy_revision, approvals_required, requirement, flags, "
        "started_at, ended_at, urgent_at) VALUES ($1, $2, $3, $4, $5, $6, 1, $6, 'ind.1', '{}', $7, $8, 'mobile', "
        "'1', 'h1', 1, '{}', '', 'd', 1, 3, '[]', '{}', $9, $10, $11)",
        [
            (org_id, request_id, each.kind, each.state, 1 + len(voices), each.maker, each.unit, each.points, NOW,
             NOW if each.state == "rejected" else None, each.urgent_at)
            for request_id, each, voices in rows
        ],
    )  # fmt: skip
    await connection.executemany(
        "INSERT INTO decision VALUES ($1, $2, $3, $4, $5, 1, $4, 'approved', '', $6)",
        [
            (org_id, request_id, number, voice, each.maker, NOW)
            for request_id, each, voices in rows
            for number, voice in enumerate(voices, start=1)
        ],
    )
    return await fetch_organisation(connection, org_id)


async def all_requests(connection: Any, org_id: int) -> list[Request]:
    rows = await connection.fetch(
        "SELECT r.*, (SELECT json_agg(json_build_object('person_id', d.person_id, 'user_id', d.user_id, 'user_name', "
        "d.user_name, 'verdict', d.verdict, 'message', d.message, 'decided_at', d.decided_at) ORDER BY d.number) "
        "FROM decision d WHERE d.org_id = r.org_id AND d.request_id = r.request_id) AS decisions "
        "FROM request r WHERE r.org_id = $1",
        org_id,
    )
    return [request_from_row(row) for row in rows]


async def paged(pool: Any, organisation: Organisation, person: str, limit: int) -> list[UUID]:
    """Every page of a person's inbox, one after the other."""
    found: list[UUID] = []
    after: Key | None = None
    for _ in range(200):
        page = await inbox.list_inbox(
            pool, organisation, actor_of(organisation, person), after=after, limit=limit, now=datetime.now(UTC)
        )
        assert isinstance(page, ListedPage)
        assert len(page.rows) <= limit
        found += [each.request.request_id for each in page.rows]
        if page.next_key is None:
            return found
        after = page.next_key
    raise AssertionError("the inbox never ends")


async def compare(connection: Any, pool: Any, given_grants: list[AGrant], made: list[ARequest], limit: int) -> None:
    organisation = await build(connection, next(_org_ids), given_grants, made)
    everything = await all_requests(connection, organisation.org_id)
    for person in PEOPLE:
        actor = actor_of(organisation, person)
        now = datetime.now(UTC)
        allowed = [each for each in everything if voices.standing(organisation, each, actor, now) is None]
        expected = sorted(allowed, key=lambda each: (each.urgent_at, each.request_id))
        assert await paged(pool, organisation, person, limit) == [each.request_id for each in expected], person


@pytest.mark.parametrize("how", ["unit by unit", "two of each unit", "from the top"])
def test_the_inbox_is_what_the_rule_allows(database_url: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is read, in steps so small that many are needed."""
    if how == "two of each unit":
        monkeypatch.setattr(inbox, "plan_look", lambda *_: Look(by_unit=True, depth=2))
    if how == "from the top":
        monkeypatch.setattr(rules, "_UNITS_FEW", 0)
        monkeypatch.setattr(rules, "WALKED_MAX", 7)
    with asyncio.Runner() as runner:
        connection = runner.run(connect(database_url))
        pool = runner.run(database.open_pool(database_url, size=1))

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(grants, max_size=10), st.lists(requests, max_size=25), st.integers(1, 7))
        def run(given_grants: list[AGrant], made: list[ARequest], limit: int) -> None:
            runner.run(compare(connection, pool, given_grants, made, limit))

        run()
        runner.run(pool.close())
        runner.run(connection.close())


# ---------------------------------------------------------------- what is counted


def look_counts(told: list[str]) -> int:
    return sum("organisation_version" in each for each in told)


def many(where: range, each: int, **changes: Any) -> Iterator[ARequest]:
    for unit in where:
        for number in range(each):
            fields: dict[str, Any] = {"maker": "P3", "points": 10_000, "kind": TYPES[0], "state": "pending"} | changes
            yield ARequest(unit=unit, urgent_at=NOW + timedelta(minutes=number * 7 + unit), **fields)


async def test_an_even_inbox_is_one_look(database_url: str) -> None:
    """A page takes one statement, however many units the person decides in."""
    connection = await connect(database_url)
    grant = AGrant("P0", 1, "CanCheckRequest", None, None, None, None)
    organisation = await build(connection, next(_org_ids), [grant], list(many(TILLS, 30)))
    told: list[str] = []
    pool = await asyncpg.create_pool(database_url, min_size=1, max_size=1)
    async with pool.acquire() as held:
        held.add_query_logger(lambda query: told.append(query.query))
    actor = actor_of(organisation, "P0")
    page = await inbox.list_inbox(pool, organisation, actor, after=None, limit=25, now=datetime.now(UTC))
    await asyncio.sleep(0)
    assert isinstance(page, ListedPage)
    assert len(page.rows) == 25
    assert look_counts(told) == 1
    await pool.close()
    await connection.close()


async def test_the_work_of_a_page_is_bounded(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a limit of points keeps out is passed over in steps; the page is short then, and leads on."""
    monkeypatch.setattr(rules, "WALKED_MAX", 20)
    connection = await connect(database_url)
    grant = AGrant("P0", None, "CanCheckRequest", None, 50_000, None, None)
    big = list(many(TILLS, 30, points=75_000))
    late = ARequest(101, "P3", 10_000, TYPES[0], "pending", FOREVER)
    organisation = await build(connection, next(_org_ids), [grant], [*big, late])
    pool = await database.open_pool(database_url, size=1)
    actor = actor_of(organisation, "P0")
    page = await inbox.list_inbox(pool, organisation, actor, after=None, limit=2, now=datetime.now(UTC))
    assert isinstance(page, ListedPage)
    assert list(page.rows) == []
    assert page.next_key is not None
    assert len(await paged(pool, organisation, "P0", 2)) == 1
    await pool.close()
    await connection.close()


async def test_a_search_leads_on_where_it_was_cut_short(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "DEPTHS", (3, 5))
    connection = await connect(database_url)
    made = [*many(TILLS, 5), *many(range(101, 102), 9, state="rejected")]
    organisation = await build(connection, next(_org_ids), [], made)
    everything = await all_requests(connection, organisation.org_id)
    pool = await database.open_pool(database_url, size=1)
    for states, maker in product_of_filters():
        asked = Search(PAST, FUTURE, states=states, maker=maker)
        found: list[UUID] = []
        after: Key | None = None
        for _ in range(100):
            page = await searches.search_requests(
                pool, organisation, actor_of(organisation, "P0"), asked, after=after, limit=2
            )
            assert isinstance(page, ListedPage)
            found += [each.request.request_id for each in page.rows]
            after = page.next_key
            if after is None:
                break
        fits = [each for each in everything if each.state in states and maker in (None, each.maker_person_id)]
        expected = sorted(fits, key=lambda each: (each.started_at, each.request_id), reverse=True)
        assert found == [each.request_id for each in expected]
    await pool.close()
    await connection.close()


def product_of_filters() -> Iterator[tuple[tuple[State, ...], str | None]]:
    for states in (tuple(State), (State.REJECTED,), (State.PENDING,), (State.FAILED,)):
        for maker in (None, "P3", "P2"):
            yield states, maker
