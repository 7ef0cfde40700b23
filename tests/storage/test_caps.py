"""The counters of caps: found by their keys however many there are, in one more round trip, guarded by the schema."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from counterfoil.application import ids, requests
from counterfoil.domain.caps import TallyAsked
from counterfoil.domain.policies import Need, PairCap, Requirement
from counterfoil.domain.requests import Request
from counterfoil.storage import caps, changes, statements
from counterfoil.storage import requests as stored
from tests.builders import (
    Lot,
    connect,
    decide_command,
    fetch_organisation,
    seed_member,
    seed_organisation,
    submit_command,
)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    found = await connect(database_url)
    try:
        yield found
    finally:
        await found.close()


MANY = """
INSERT INTO cap_counter SELECT 51250, 'day', 'maker ' || n, current_date, 5 FROM generate_series(1, 20000) n;
INSERT INTO cap_use SELECT 51250, md5('r' || n)::uuid, 'day', 'maker ' || n, current_date, 5
    FROM generate_series(1, 20000) n;
ANALYZE cap_counter, cap_use;
"""


def scans(plan: Any) -> Iterator[str]:
    """The tables that a plan reads from end to end."""
    if isinstance(plan, dict):
        if plan.get("Node Type") == "Seq Scan":
            yield plan["Relation Name"]
        for part in plan.values():
            yield from scans(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from scans(part)


@pytest.mark.parametrize("name", ["lock_for_submission", "lock_for_decision"])
async def test_counters_are_found_by_their_keys(connection: Any, name: str) -> None:
    await seed_organisation(connection)
    await connection.execute(MANY)
    query = statements.load("caps.sql")[name]
    count = max(int(each) for each in re.findall(r"\$(\d+)", query))
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE hot AS {query}")
    (row,) = await connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE hot({', '.join(['NULL'] * count)})")
    assert not {"cap_use", "cap_counter"} & set(scans(json.loads(row[0])))


@pytest.mark.usefixtures("reads_that_never_waited")
async def test_a_policy_that_counts_costs_one_more_round_trip_and_one_that_does_not_none(connection: Any) -> None:
    await seed_organisation(connection)
    await seed_member(connection, [Lot(10_000_000)])
    sent: list[str] = []
    connection.add_query_logger(lambda query: sent.append(query.query))
    trips: dict[str, tuple[int, int]] = {}
    for name, document in (
        ("default", {"approvals": 1}),
        ("rules", {"rules": [{"name": "a", "when": {"above": 10**12}}, {"name": "b", "needs": [{"count": 1}]}]}),
        ("caps", {"caps": [{"name": "all", "per": "day", "points": 10**12}], "counts": True}),
    ):
        await connection.execute("UPDATE policy SET document = $1", json.dumps(document))
        organisation = await fetch_organisation(connection)
        counts = []
        for size in (1, 1, 5):  # the driver looks types up the first time
            commands = [submit_command(organisation, points=1_000) for _ in range(size)]
            await asyncio.sleep(0)
            sent.clear()
            made = await requests.submit_requests(connection, organisation, commands)
            await asyncio.sleep(0)  # what was logged is told by the event loop
            submitted = len(sent)
            sent.clear()
            voices = [decide_command(organisation, each.request_id) for each in commands]
            done = await requests.decide_requests(connection, organisation, voices)
            await asyncio.sleep(0)
            assert all(isinstance(each, Request) for each in (*made, *done))
            counts.append((submitted, len(sent)))
        assert counts[1] == counts[2], name
        trips[name] = counts[1]
    assert trips == {"default": (2, 2), "rules": (2, 2), "caps": (3, 3)}


async def test_a_member_has_one_counter_whatever_identifier_is_sent(connection: Any) -> None:
    await seed_organisation(connection)
    await seed_member(connection, [Lot(1_000)])
    await connection.execute("INSERT INTO member_identifier VALUES (51250, 'card_number', 'C1', 382332518)")
    asked = [
        TallyAsked(ids.uuid7(), "c", "member", value, kind)
        for kind, value in (
            ("mobile", "919988776655"),
            ("card_number", "C1"),
            ("id", "382332518"),
            ("card_number", "C2"),
        )
    ]
    book = await caps.lock_for_submission(connection, 51250, asked, "Asia/Kolkata")
    subjects = [book.tallies(each.request_id)["c"].subject for each in asked]
    assert subjects == ["member 382332518"] * 3 + ["card_number C2"]


async def test_the_day_is_the_organisation_s(connection: Any) -> None:
    await seed_organisation(connection)
    asked = [TallyAsked(ids.uuid7(), "c", "day", "", "mobile")]
    days = []
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):  # 25 hours apart: never the same day
        book = await caps.lock_for_submission(connection, 51250, asked, zone)
        days.append(book.tallies(asked[0].request_id)["c"].day)
    assert days[0] > days[1]


RULES = {
    "INSERT INTO access_grant (org_id, grant_id, access_right) VALUES (51250, gen_random_uuid(), 'x')": (
        "access_grant_of_person_or_group"
    ),
    "UPDATE cap_counter SET points = points - 1000001": "cap_counter_not_negative",
    "UPDATE cap_use SET points = 1": "cap_use_append_only",
    "DELETE FROM cap_use": "cap_use_append_only",
    "UPDATE request SET requirement = '[]'": "request_requirement_never_changes",
    "UPDATE request SET policy_revision = 9": "request_requirement_never_changes",
    "UPDATE request SET auto_rule = 'x'": "request_requirement_never_changes",
    "UPDATE request SET expires_at = now()": "request_life_never_changes",
}


async def test_what_the_schema_refuses(connection: Any) -> None:
    await seed_organisation(connection)
    document = {"caps": [{"name": "all", "per": "day", "points": 10**12}], "counts": True}
    await connection.execute("UPDATE policy SET document = $1", json.dumps(document))
    organisation = await fetch_organisation(connection)
    await requests.submit_requests(connection, organisation, [submit_command(organisation, points=1_000_000)])
    found = {}
    for sql in RULES:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
            await connection.execute(sql)
        found[sql] = refused.value.constraint_name
    assert found == RULES


def test_a_requirement_comes_back_as_it_was_frozen() -> None:
    whole = Requirement((Need(2, "finance", None, other_store=True, step=2), Need()), "r", True, (PairCap("p", 5),))  # noqa: FBT003
    read = stored._requirement  # noqa: SLF001 - the one place that knows the stored forms
    assert read(changes._encode_requirement(whole)) == whole  # noqa: SLF001
    assert read(b'[{"count":2,"right":"CanCheckRequest"}]').needs == (Need(2),)  # as the first storey froze it
