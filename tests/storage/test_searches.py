"""Every filter of the search and every form of the inbox reaches an index, by the planner's own choice."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from counterfoil.domain.inbox import START, Look
from counterfoil.domain.reach import Reach
from counterfoil.domain.requests import State
from counterfoil.domain.searches import Search, Way
from counterfoil.storage import inbox, request_views, searches
from tests.builders import TILL, connect, seed_organisation
from tests.storage.test_statements import SEED, Told, scans

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
NOW = datetime.now(UTC)
LATEST = (datetime(9999, 1, 1, tzinfo=UTC), UUID(int=2**128 - 1))
BOUNDS: dict[str, Any] = {"started_from": NOW - timedelta(days=3000), "started_until": NOW + timedelta(days=1)}
# Ten thousand requests more, by a hundred makers at a hundred units, so that every filter finds few of many.
MORE = """
INSERT INTO request (org_id, request_id, request_type, state, maker_person_id, maker_user_id, maker_user_name,
        maker_login, entity_info, unit_id, points, member_id, identifier_kind, identifier_value, external_reference,
        host_id, host_revision, payload, sealed_headers, digest, policy_revision, approvals_required, requirement,
        flags, started_at, ended_at, urgent_at)
    SELECT 51250, md5('s' || n)::uuid, 'POINTS-REDEMPTION', CASE WHEN n % 10 = 0 THEN 'pending' ELSE 'rejected' END,
        'E-' || n % 100, 1, 'maker', 'ind.1', '{}', n % 100, 100000, nullif(n % 2000, 7), 'mobile', 'm' || n % 2000,
        'more' || n, 'h1', 1, '{}', '', 'd', 1, 1, '[]', '{}', now() - n * interval '1 minute',
        CASE WHEN n % 10 > 0 THEN now() END, now() + n * interval '1 hour'
    FROM generate_series(1, 10000) n;
INSERT INTO decision
    SELECT 51250, md5('s' || n)::uuid, 1, 'C-' || n % 100, 'E-maker', 2, 'checker', 'rejected', '', now()
    FROM generate_series(1, 10000) n WHERE n % 10 > 0;
ANALYZE;
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    found = await connect(database_url)
    try:
        await seed_organisation(found)
        await found.execute(SEED)
        await found.execute(MORE)
        yield found
    finally:
        await found.close()


def indexes(plan: Any) -> Iterator[str]:
    """The indexes that a plan uses."""
    if isinstance(plan, dict):
        if "Index Name" in plan:
            yield plan["Index Name"]
        for part in plan.values():
            yield from indexes(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from indexes(part)


async def plans(connection: Connection, query: str, arguments: tuple[Any, ...]) -> list[Any]:
    """The plan for these arguments, and the one for any."""
    with_these = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *arguments)
    count = max(int(each) for each in re.findall(r"\$(\d+)", query))
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE one AS {query}")
    (row,) = await connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE one ({', '.join(['NULL'] * count)})")
    await connection.execute("DEALLOCATE one")
    await connection.execute("RESET plan_cache_mode")
    return [json.loads(with_these), json.loads(row[0])]


FILTERS: dict[str, tuple[dict[str, Any], Way, set[str]]] = {
    "nothing": ({}, Way.START, {"request_by_start"}),
    "days": ({"started_from": NOW - timedelta(days=2)}, Way.START, {"request_by_start"}),
    "pending": ({"states": (State.PENDING,)}, Way.OPEN, {"request_open", "request_by_start"}),
    "failed": ({"states": (State.FAILED,)}, Way.START, {"request_by_start"}),
    "type": ({"request_type": "POINTS-REDEMPTION"}, Way.START, {"request_by_start"}),
    "unit": ({"units": [7]}, Way.START, {"request_by_start"}),
    "reference": ({"reference": "more77"}, Way.REFERENCE, {"request_by_reference"}),
    "member": ({"member_id": 77}, Way.MEMBER, {"request_by_member", "request_of_unknown_member"}),
    "identifier": ({"identifier": ("mobile", "m77")}, Way.MEMBER, {"request_by_member", "request_of_unknown_member"}),
    "maker": ({"maker": "E-7"}, Way.MAKER, {"request_by_maker"}),
    "checker": ({"checker": "C-7"}, Way.CHECKER, {"decision_by_person"}),
    "maker and member": ({"maker": "E-77", "member_id": 77}, Way.MEMBER, {"request_by_member"}),
    "checker, state and unit": (
        {"checker": "C-7", "states": (State.REJECTED,), "units": [7]}, Way.CHECKER, {"decision_by_person"},
    ),
}  # fmt: skip


async def told_by(connection: Connection, work: Any) -> tuple[str, tuple[Any, ...]]:
    """The one statement that a piece of work sends."""
    told = Told()
    connection.add_query_logger(told)
    await work
    connection.remove_query_logger(told)
    await asyncio.sleep(0)
    # The driver may ask once for the types that it meets.
    ((query, arguments),) = [each for each in told.sent.items() if "organisation_version" in each[0]]
    return query, arguments


async def test_every_filter_reaches_its_index(connection: Connection) -> None:
    assert {way for _, way, _ in FILTERS.values()} == set(Way)
    for name, (filters, way, wanted) in FILTERS.items():
        asked = Search(**(BOUNDS | filters))
        assert asked.way is way, name
        query, arguments = await told_by(
            connection, searches.search(connection, 51250, asked, after=LATEST, depth=200, wanted=26)
        )
        for plan in await plans(connection, query, arguments):
            assert list(scans(plan)) == [], name
            assert wanted & set(indexes(plan)), (name, set(indexes(plan)))
        if way is Way.MEMBER:
            assert wanted <= set(indexes(plan)), name


async def test_every_filter_finds_what_it_means(connection: Connection) -> None:
    expected = {"member": 5, "reference": 1, "maker": 100, "checker": 100, "identifier": 5, "pending": 1100}
    for name, count in expected.items():
        filters = FILTERS[name][0]
        found = await searches.search(
            connection, 51250, Search(**(BOUNDS | filters)), after=LATEST, depth=50_000, wanted=50_000
        )
        assert found is not None
        # The seed has a request of its own for each of these members.
        assert len(found.requests) == count + (name in ("member", "identifier")), name
    unknown = await searches.search(
        connection, 51250, Search(**BOUNDS, identifier=("mobile", "m7")), after=LATEST, depth=200, wanted=26
    )
    assert unknown is not None
    assert len([each for each in unknown.requests if each.member_id is None]) == 5
    assert len(unknown.requests) == 6


@pytest.mark.parametrize("by_unit", [True, False])
async def test_the_inbox_reaches_its_index(connection: Connection, by_unit: bool) -> None:  # noqa: FBT001 - a case
    reach = Reach(units=dict.fromkeys(range(50), 10**9)) if by_unit else Reach(10**9, {TILL: 10**9})
    work = inbox.list_candidates(
        connection, 51250, reach, "C-7", after=START, wanted=26, look=Look(by_unit=by_unit, depth=26)
    )
    query, arguments = await told_by(connection, work)
    for plan in await plans(connection, query, arguments):
        assert list(scans(plan)) == []
        assert ("request_urgent_in_unit" if by_unit else "request_urgent") in set(indexes(plan))


async def test_the_full_view_reaches_its_indexes(connection: Connection) -> None:
    request_id = await connection.fetchval("SELECT request_id FROM request WHERE external_reference = 'more10'")
    query, arguments = await told_by(connection, request_views.fetch_file(connection, 51250, request_id))
    for plan in await plans(connection, query, arguments):
        assert list(scans(plan)) == []
