"""Claims: each request to one process, few of a host that is busy, and only as long as the lease is kept."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from counterfoil.application import ids
from counterfoil.domain.evidence import Tried
from counterfoil.storage import attempts, privileges, restores
from tests.builders import connect, seed_organisation

WAITING = """
INSERT INTO request (org_id, request_id, request_type, state, maker_person_id, maker_user_id, maker_user_name,
    maker_login, entity_info, unit_id, points, host_id, host_revision, payload, sealed_headers, digest,
    policy_revision, approvals_required, requirement, flags, started_at, decided_at, due_at)
SELECT $1, md5($1::bigint || 'r' || n)::uuid, 'POINTS-REDEMPTION', 'approved', 'E-maker', 1, 'maker', 'ind.1', '{}',
    50682289, 1000, 'h' || n % 2, 1, '{}', '', 'd', 1, 1, '[]', '{}', now(), now(),
    now() - n * interval '1 second' FROM generate_series(1, $2::integer) n
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    found = await connect(database_url)
    try:
        for org_id in (51250, 51251):
            await seed_organisation(found, org_id)
            await found.execute(WAITING, org_id, 20)
        yield found
    finally:
        await found.close()


async def test_each_request_is_claimed_once(connection: Any, database_url: str) -> None:
    assert await attempts.organisations_with_work(connection) == {51250: 1, 51251: 1}
    async with AsyncExitStack() as stack:
        several = [await connect(database_url) for _ in range(4)]
        for each in several:
            stack.push_async_callback(each.close)
        claimed = await asyncio.gather(
            *(
                attempts.claim(each, 51250, f"p{number}", {}, slots=3, lease_seconds=30)
                for number, each in enumerate(several)
            )
        )
    every = [claim.request_id for claims in claimed for claim in claims]
    assert len(every) == len(set(every))
    assert {claim.fence for claims in claimed for claim in claims} == {1}
    assert all(len(claims) <= 6 for claims in claimed)


async def test_a_busy_host_gets_no_more_and_the_other_does(connection: Any) -> None:
    claims = await attempts.claim(connection, 51250, "p", {"h0": 0, "h1": 7}, slots=50, lease_seconds=30)
    assert Counter(each.host_id for each in claims) == {"h1": 7}
    assert await attempts.claim(connection, 51250, "p", {"h0": 0, "h1": 0}, slots=50, lease_seconds=30) == []


async def test_a_lease_is_kept_by_its_owner_and_fence_only(connection: Any) -> None:
    first, *_ = await attempts.claim(connection, 51250, "p", {}, slots=1, lease_seconds=0.05)
    kept = [(first.request_id, first.fence)]
    assert await attempts.extend_leases(connection, 51250, "other", kept, 30) == set()
    assert await attempts.extend_leases(connection, 51250, "p", [(first.request_id, 9)], 30) == set()
    await asyncio.sleep(0.1)
    again = {
        each.request_id: each.fence
        for each in await attempts.claim(connection, 51250, "other", {}, slots=50, lease_seconds=30)
    }
    assert again[first.request_id] == 2
    assert await attempts.extend_leases(connection, 51250, "p", kept, 30) == set()
    assert await attempts.extend_leases(connection, 51250, "other", [(first.request_id, 2)], 30) == {first.request_id}


async def test_what_waits_is_told(connection: Any) -> None:
    oldest = await attempts.oldest_open(connection, 51250)
    assert (oldest.approved is not None, oldest.unknown, oldest.incidents) == (True, None, 0)
    assert await attempts.list_attempts(connection, 51250, ids.uuid7()) == Tried(1, None, [], [])


async def test_another_system_or_timeline_pauses(connection: Any) -> None:
    assert await restores.why_paused(connection) is None
    assert await restores.why_paused(connection) is None
    for column, what in (("timeline", "restored or promoted"), ("system_identifier", "another server")):
        before = await connection.fetchval(f"SELECT {column} FROM restore_mark")  # noqa: S608
        await connection.execute(f"UPDATE restore_mark SET {column} = 'x'")  # noqa: S608
        reason = await restores.why_paused(connection)
        assert reason is not None
        assert what in reason
        await connection.execute(f"UPDATE restore_mark SET {column} = $1", before)  # noqa: S608
    await restores.mark(connection, await restores.find_identity(connection))
    assert await restores.why_paused(connection) is None


async def test_the_application_s_role_may_do_it_and_no_more(connection: Any, database_url: str) -> None:
    role = f"app_{ids.uuid7().hex}"
    await connection.execute(f"CREATE ROLE {role}")
    try:
        await privileges.grant(database_url, role)
        await connection.execute(f"SET ROLE {role}")
        assert await restores.why_paused(connection) is None
        assert await attempts.claim(connection, 51250, "p", {}, slots=1, lease_seconds=30)
        for forbidden in (
            "DELETE FROM attempt", "DELETE FROM incident", "UPDATE incident_voice SET reason = ''",
            "UPDATE look_up SET verdict = 'found'", "DELETE FROM request",
        ):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)
    finally:
        await connection.execute("RESET ROLE")
        await connection.execute(f"DROP OWNED BY {role}")
        await connection.execute(f"DROP ROLE {role}")
