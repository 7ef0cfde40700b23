"""Every named statement is one that PostgreSQL knows, that names its organisation, and that an index serves."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from itertools import product
from typing import Any, TypeAlias

import asyncpg
import pytest

from counterfoil.application import comments as comment_verbs
from counterfoil.application import endings, ids
from counterfoil.application import points as point_verbs
from counterfoil.application import requests as request_verbs
from counterfoil.domain.access import Right
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.request_pages import ListQuery
from counterfoil.domain.requests import TRANSITIONS, Request, State
from counterfoil.storage import comments, members, requests, statements
from counterfoil.storage.database import transaction
from tests.builders import (
    Lot,
    comment_command,
    connect,
    decide_command,
    fetch_organisation,
    redeem_command,
    seed_member,
    seed_organisation,
    submit_command,
    withdraw_command,
)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
FILES = sorted(file.name for file in files("counterfoil.storage").iterdir() if file.name.endswith(".sql"))
STATEMENTS = [(file, name) for file in FILES for name in statements.load(file)]

# What may look beyond one organisation: the directory of logins, and the planner's statistics.
BEYOND_ONE = {"organisation_of_login", "list_organisations", "list_login_owners", "analyse"}
# Which database this is, is nobody's in particular.
BEYOND_ONE |= {"find_identity", "insert_mark", "update_mark"}
# What tells who has work to do: each organisation's own, found without a lock and claimed by name.
OF_EACH = {"organisations_with_work", "organisations_with_open", "organisations_with_sealed_values"}
# What has no plan of its own: maintenance, and the one statement that is completed from closed lists.
# The ways into a search are parts of one: test_searches.py has them all.
UNPREPARABLE = {"analyse", "search_requests", "way_in", "way_in_by_checker", "way_in_by_member"}
BIG = {
    "decision", "event", "hold", "hold_lot", "idempotency_key", "journal", "lot", "member", "member_identifier",
    "posting", "redemption", "request", "request_comment",
}  # fmt: skip


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    found = await connect(database_url)
    try:
        yield found
    finally:
        await found.close()


def text_of(file: str, name: str) -> str:
    text = statements.load(file)[name]
    return text.replace("{order}", "started_at, request_id").replace("{only_open}", "AND r.ended_at IS NULL")


# ---------------------------------------------------------------- every statement


async def test_postgresql_understands_every_statement(connection: Connection) -> None:
    for file, name in STATEMENTS:
        if name not in UNPREPARABLE:
            try:
                await connection.prepare(text_of(file, name))
            except asyncpg.PostgresError as error:
                pytest.fail(f"{file}: {name}: {error}")


def tables_named(text: str, tables: set[str]) -> Iterator[tuple[str, str]]:
    """Each table that is read, changed or emptied, with the alias it goes by."""
    for verb, table, alias in re.findall(
        r"\b(FROM|JOIN|UPDATE|USING|INTO)\s+(\w+)(?:\s+(?:AS\s+)?(?!SET\b|WHERE\b|LEFT\b|ON\b|ORDER\b|CROSS\b)(\w+))?",
        re.sub(r"--.*", "", text),
    ):
        if table in tables and verb != "INTO":
            yield table, alias or table


@pytest.mark.parametrize(("file", "name"), STATEMENTS)
def test_every_statement_names_its_organisation(file: str, name: str) -> None:
    text = re.sub(r"--.*", "", text_of(file, name))
    schema = "".join(
        each.read_text(encoding="utf-8")
        for each in sorted(
            (files("counterfoil.storage") / "migrations").iterdir(), key=lambda migration: migration.name
        )
        if each.name.endswith(".sql")
    )
    tables = set(re.findall(r"CREATE (?:TABLE|VIEW) (\w+)", schema)) - {"directory", "restore_mark"}
    assert {"request", "member_account", "posting"} <= tables
    if name in BEYOND_ONE:
        assert not list(tables_named(text, tables))
        return
    if name in OF_EACH:
        assert re.search(r"\bFROM organisation o\b", text)
        tables.remove("organisation")
    else:
        assert "$1" in text
    for table, alias in tables_named(text, tables):
        own = rf"\b{alias}\.org_id = (\$1|\w+\.org_id)|\b\w+\.org_id = {alias}\.org_id"
        bare = alias == table and re.search(r"(?<!\.)\borg_id = \$1", text)
        assert re.search(own, text) or bare, f"{table} {alias} is not bound to the organisation"
    for inserted in re.findall(r"INSERT INTO (\w+) \(([^)]*)\)\s*(?:SELECT|VALUES \()\s*([^,]*),", text):
        table, columns, first_value = inserted
        if table == "directory":
            continue
        assert columns.strip().startswith("org_id,"), f"{table}: org_id leads"
        assert first_value.strip() == "$1", f"{table}: the organisation is $1"


def test_the_check_sees_a_table_that_is_not_bound() -> None:
    text = "SELECT 1 FROM request r JOIN decision d USING (request_id) WHERE r.org_id = $1"
    assert list(tables_named(text, {"request", "decision"})) == [("request", "r"), ("decision", "d")]


# ---------------------------------------------------------------- plans

SEED = """
INSERT INTO member (org_id, member_id, programme_id, mobile, available)
    SELECT 51250, n, 1, 'm' || n, 900000 FROM generate_series(1, 20000) n;
INSERT INTO member_identifier
    SELECT 51250, 'mobile', 'm' || n, n FROM generate_series(1, 20000) n;
INSERT INTO lot (org_id, member_id, lot_id, reference, awarded_at, points, remaining)
    SELECT 51250, n, md5('l' || n)::uuid, 'a', now(), 1000000, 900000 FROM generate_series(1, 20000) n;
INSERT INTO request (org_id, request_id, request_type, state, maker_person_id, maker_user_id, maker_user_name,
        maker_login, entity_info, unit_id, points, member_id, identifier_kind, identifier_value, external_reference,
        host_id, host_revision, payload, sealed_headers, digest, policy_revision, approvals_required, requirement,
        flags, started_at, ended_at)
    SELECT 51250, md5('r' || n)::uuid, 'POINTS-REDEMPTION', CASE WHEN n <= 100 THEN 'pending' ELSE 'rejected' END,
        'E-maker', 1, 'maker', 'ind.1', '{}', 50682289, 100000, n, 'mobile', 'm' || n, 'ref' || n, 'h1', 1, '{}', '',
        'd', 1, 1, '[]', '{}', now() - n * interval '1 minute', CASE WHEN n > 100 THEN now() END
    FROM generate_series(1, 20000) n;
INSERT INTO decision
    SELECT 51250, md5('r' || n)::uuid, 1, 'E-checker', 'E-maker', 2, 'checker', 'rejected', '', now()
    FROM generate_series(101, 20000) n;
INSERT INTO event
    SELECT 51250, md5('r' || n)::uuid, md5('e' || n)::uuid, 'submitted', now(), '{}', NULL, ''
    FROM generate_series(1, 20000) n;
INSERT INTO hold
    SELECT 51250, md5('r' || n)::uuid, n, 100000, 'released', now() FROM generate_series(1, 20000) n;
INSERT INTO hold_lot
    SELECT 51250, md5('r' || n)::uuid, md5('l' || n)::uuid, 100000 FROM generate_series(1, 20000) n;
INSERT INTO journal
    SELECT 51250, md5('j' || n)::uuid, 'redeem', n, NULL, now() FROM generate_series(1, 20000) n;
INSERT INTO posting
    SELECT 51250, md5('j' || n)::uuid, 1, 'available', 'redeemed', md5('l' || n)::uuid, 100000
    FROM generate_series(1, 20000) n;
INSERT INTO redemption
    SELECT 51250, lpad(n::text, 6, '0'), n, NULL, 100000, 'x' || n, '', '', 'ind.1', now()
    FROM generate_series(1, 20000) n;
INSERT INTO request_comment
    SELECT 51250, md5('r' || n)::uuid, md5('c' || n)::uuid, 'E-maker', 1, 'maker', 'x', now()
    FROM generate_series(1, 20000) n;
INSERT INTO idempotency_key
    SELECT 51250, 'ind.1', '/', 'k' || n, 'd', md5('r' || n)::uuid FROM generate_series(1, 20000) n;
ANALYZE;
"""


@dataclass(eq=False)
class Told:
    """The statements that a piece of work sent, with their arguments."""

    sent: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def __call__(self, query: Any) -> None:
        if not query.query.startswith(("BEGIN", "COMMIT", "ROLLBACK", "SELECT pg_advisory")):
            self.sent[query.query] = query.args


def scans(plan: Any) -> Iterator[str]:
    """The big tables that a plan reads from end to end."""
    if isinstance(plan, dict):
        if plan.get("Node Type") == "Seq Scan" and plan["Relation Name"] in BIG:
            yield plan["Relation Name"]
        for part in plan.values():
            yield from scans(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from scans(part)


async def hot_work(connection: Connection, organisation: Organisation) -> None:
    """What a worker does all day, on one connection."""
    now = datetime.now(UTC)
    submissions = [
        submit_command(organisation, mobile=f"m{number}", reference=f"new{number}", idempotency_key=f"new{number}")
        for number in range(1, 9)
    ]
    made = await request_verbs.submit_requests(connection, organisation, submissions)
    assert isinstance(made[0], Request)
    assert all(isinstance(each, Request) for each in made)
    await request_verbs.decide_requests(
        connection, organisation, [decide_command(organisation, each.request_id) for each in submissions]
    )
    await point_verbs.redeem_points(connection, organisation, [redeem_command(organisation, mobile="m9")])
    await requests.fetch_request(connection, 51250, submissions[0].request_id)
    await requests.list_events(connection, 51250, submissions[0].request_id)
    await requests.oldest_pending(connection, 51250)
    assert not await requests.has_overdue(connection, 51250)
    assert await requests.claim_overdue(connection, 51250, 10) == []
    await endings.withdraw_requests(connection, organisation, [withdraw_command(organisation, made[0].request_id)])
    await comment_verbs.add_comments(connection, organisation, [comment_command(organisation, made[0].request_id)])
    await comments.list_comments(connection, 51250, made[0].request_id, None, 10)
    await members.find_balance(connection, 51250, "mobile", "m7")
    await members.find_balance(connection, 51250, "id", "7")
    page = await requests.list_requests(
        connection, 51250, ListQuery((State.PENDING,), datetime(2000, 1, 1, tzinfo=UTC), now)
    )
    assert page is not None
    assert page.total == 100


async def test_no_hot_statement_reads_a_big_table_from_end_to_end(connection: Connection) -> None:
    await seed_organisation(connection, rights=[Right.MOVE_DIRECTLY])
    await connection.execute(SEED)
    organisation = await fetch_organisation(connection)
    told = Told()
    connection.add_query_logger(told)
    await hot_work(connection, organisation)
    connection.remove_query_logger(told)
    await asyncio.sleep(0)  # what was logged is told by the event loop
    assert len(told.sent) >= 11
    for number, (query, arguments) in enumerate(told.sent.items()):
        with_these = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *arguments)
        assert list(scans(json.loads(with_these))) == [], query
        # And as it is planned when PostgreSQL no longer looks at the arguments.
        count = max((int(each) for each in re.findall(r"\$(\d+)", query)), default=0)
        nulls = f"({', '.join(['NULL'] * count)})" if count else ""
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE hot_{number} AS {query}")
        (row,) = await connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE hot_{number}{nulls}")
        await connection.execute("RESET plan_cache_mode")
        assert list(scans(json.loads(row[0]))) == [], query


# ---------------------------------------------------------------- guards


async def a_story(connection: Connection) -> tuple[Request, Request]:
    """A succeeded and a pending request with all that belongs to them."""
    await seed_organisation(connection)
    await seed_member(connection, [Lot(500_000)])
    organisation = await fetch_organisation(connection)
    made = await request_verbs.submit_requests(
        connection, organisation, [submit_command(organisation, reference="R"), submit_command(organisation)]
    )
    one, other = made
    assert isinstance(one, Request)
    assert isinstance(other, Request)
    await request_verbs.decide_requests(connection, organisation, [decide_command(organisation, one.request_id)])
    return one, other


async def refused(connection: Connection, sql: str, *arguments: object) -> str:
    """The name of the rule that PostgreSQL refuses this by."""
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as error:
        async with connection.transaction():
            await connection.execute(sql, *arguments)
    return str(error.value.constraint_name)


APPEND_ONLY = {
    "UPDATE decision SET message = 'x'": "decision_append_only",
    "DELETE FROM decision": "decision_append_only",
    "TRUNCATE decision": "decision_append_only",
    "UPDATE journal SET kind = 'award'": "journal_append_only",
    "DELETE FROM journal": "journal_append_only",
    "TRUNCATE journal": "journal_append_only",
    "UPDATE posting SET points = 1": "posting_append_only",
    "DELETE FROM posting": "posting_append_only",
    "TRUNCATE posting": "posting_append_only",
    "UPDATE redemption SET points = 1": "redemption_append_only",
    "DELETE FROM redemption": "redemption_append_only",
    "TRUNCATE redemption": "redemption_append_only",
    "UPDATE hold_lot SET points = 1": "hold_lot_append_only",
    "DELETE FROM hold_lot": "hold_lot_append_only",
    "TRUNCATE hold_lot": "hold_lot_append_only",
    "UPDATE request_comment SET message = 'x'": "request_comment_append_only",
    "DELETE FROM request_comment": "request_comment_append_only",
    "TRUNCATE request_comment": "request_comment_append_only",
    "UPDATE request SET expires_at = now()": "request_life_never_changes",
    "UPDATE request SET resubmission_of = request_id": "request_life_never_changes",
    "DELETE FROM event": "event_append_only",
    "TRUNCATE event": "event_append_only",
    "UPDATE event SET kind = 'x'": "event_facts_never_change",
    "UPDATE event SET at = now()": "event_facts_never_change",
    "UPDATE event SET facts = '{}'": "event_facts_never_change",
    "UPDATE event SET facts = '{}', personal = NULL": "event_facts_never_change",
    "UPDATE event SET leaf_hash = 'x'": "event_facts_never_change",
    "UPDATE event SET personal = '{}'": "event_facts_never_change",
    "UPDATE event SET subject_id = event_id": "event_facts_never_change",
    "DELETE FROM request": "request_never_deleted",
    "TRUNCATE request CASCADE": "request_never_deleted",
}


async def test_what_is_written_for_good_is_not_unwritten(connection: Connection) -> None:
    await a_story(connection)
    assert {sql: await refused(connection, sql) for sql in APPEND_ONLY} == APPEND_ONLY


async def test_what_is_personal_in_an_event_can_be_erased(connection: Connection) -> None:
    await a_story(connection)
    assert await connection.execute("UPDATE event SET personal = NULL") == "UPDATE 3"


async def test_the_database_refuses_every_other_transition(connection: Connection) -> None:
    final = {each for each, following in TRANSITIONS.items() if not following}
    _, pending = await a_story(connection)
    change = """UPDATE request SET state = $2, ended_at = CASE WHEN $3 THEN coalesce(ended_at, now()) END
        WHERE request_id = $1"""
    for before, after in product(State, State):
        request_id = ids.uuid7()
        await connection.execute(
            "CREATE TEMP TABLE one AS SELECT * FROM request WHERE request_id = $1", pending.request_id
        )
        await connection.execute(
            "UPDATE one SET request_id = $1, state = $2, ended_at = CASE WHEN $3 THEN now() END",
            request_id,
            before.value,
            before in final,
        )
        await connection.execute("INSERT INTO request SELECT * FROM one; DROP TABLE one")
        arguments = (request_id, after.value, after in final)
        if after in TRANSITIONS[before] or after is before:
            assert await connection.execute(change, *arguments) == "UPDATE 1", (before, after)
        else:
            rule = await refused(connection, change, *arguments)
            assert rule in {"request_transition", "request_final_never_changes"}, (before, after)


ENDS = (
    "outcome = NULL",
    "outcome = '{}'",
    "ended_at = now()",
    "ended_at = NULL",
    "state = 'failed'",
    "state = 'pending', ended_at = NULL",
)
CONTENTS = (
    "points = 1",
    "digest = 'x'",
    "payload = '{}'",
    "maker_person_id = 'E-checker'",
    "approvals_required = 2",
    "host_id = 'x'",
    "host_revision = 2",
    "identifier_kind = 'email'",
    "identifier_value = 'x'",
    "external_reference = 'x'",
)


async def test_an_end_and_a_content_never_change(connection: Connection) -> None:
    succeeded, pending = await a_story(connection)
    change = "UPDATE request SET {} WHERE request_id = $1"
    for content in CONTENTS:
        for request in (succeeded, pending):
            rule = await refused(connection, change.format(content), request.request_id)
            assert rule == "request_content_never_changes"
    for end in ENDS:
        rule = await refused(connection, change.format(end), succeeded.request_id)
        assert rule == "request_final_never_changes", end


RULES = {
    "UPDATE member SET available = -1": "member_available_not_negative",
    "UPDATE member SET held = -1": "member_held_not_negative",
    "UPDATE lot SET remaining = points + 1": "lot_remaining_range",
    "UPDATE lot SET held = remaining + 1": "lot_held_range",
    "UPDATE lot SET held = -1": "lot_held_range",
    "INSERT INTO posting SELECT org_id, journal_id, 9, source, destination, lot_id, 0 FROM posting": (
        "posting_points_positive"
    ),
    "INSERT INTO posting SELECT org_id, journal_id, 9, source, source, lot_id, points FROM posting": (
        "posting_accounts_differ"
    ),
    "INSERT INTO posting SELECT org_id, journal_id, 9, 'mint', destination, lot_id, points FROM posting": (
        "posting_accounts_known"
    ),
    """INSERT INTO decision SELECT org_id, request_id, 2, maker_person_id, maker_person_id, user_id, user_name, verdict,
        message, decided_at FROM decision""": "decision_maker_is_not_checker",
    "INSERT INTO decision SELECT * FROM decision": "decision_pkey",
    """INSERT INTO decision SELECT org_id, request_id, 2, 'E-x', maker_person_id, user_id, user_name, verdict,
        message, decided_at, maker_person_id FROM decision""": "decision_delegator_is_another",
    """INSERT INTO decision SELECT org_id, request_id, 2, 'E-x', maker_person_id, user_id, user_name, verdict,
        message, decided_at, 'E-x' FROM decision""": "decision_delegator_is_another",
    """WITH one AS (INSERT INTO decision SELECT org_id, request_id, 2, 'E-x', maker_person_id, user_id, user_name,
        verdict, message, decided_at, 'E-y' FROM decision)
        INSERT INTO decision SELECT org_id, request_id, 3, 'E-z', maker_person_id, user_id, user_name, verdict,
        message, decided_at, 'E-y' FROM decision""": "decision_right_used_once",
    """INSERT INTO decision SELECT org_id, request_id, 2, 'E-x', maker_person_id, user_id, user_name, 'approved',
        message, decided_at, NULL, NULL, true FROM decision""": "decision_sent_back_is_rejected",
    """INSERT INTO delegation SELECT 51250, gen_random_uuid(), 'E-maker', 'E-maker', NULL, NULL, NULL, now(),
        now() + interval '1 day', now()""": "delegation_to_another",
    """INSERT INTO delegation SELECT 51250, gen_random_uuid(), 'E-maker', 'E-checker', NULL, NULL, NULL, now(), now(),
        now()""": "delegation_has_time",
    """INSERT INTO freeze_order VALUES (51250, gen_random_uuid(), 'organisation', '', 'r', 'E-a', 'a', now(), 'E-b',
        'b', now(), 'E-b', 'b', now())""": "freeze_lifted_by_two",
    """INSERT INTO freeze_order VALUES (51250, gen_random_uuid(), 'organisation', '', 'r', 'E-a', 'a', now(), NULL,
        NULL, NULL, 'E-b', 'b', now())""": "freeze_proposal_is_whole",
    """INSERT INTO redemption SELECT org_id, 'AAAAAA', member_id, request_id, points, NULL, '', '', till_login, now()
        FROM redemption""": "redemption_request_unique",
    """INSERT INTO redemption SELECT org_id, 'AAAAAA', member_id, NULL, points, external_reference, '', '', till_login,
        now() FROM redemption""": "redemption_reference_unique",
    """INSERT INTO redemption SELECT org_id, 'AAA-AA', member_id, NULL, points, NULL, '', '', till_login, now()
        FROM redemption""": "redemption_id_form",
    "UPDATE request SET state = 'rejected' WHERE state = 'pending'": "request_final_has_end",
    "INSERT INTO idempotency_key SELECT 51250, 'ind.1', '/', '', 'd', request_id FROM request LIMIT 1": (
        "idempotency_key_length"
    ),
}


async def test_each_rule_of_the_tables_has_its_name(connection: Connection) -> None:
    await a_story(connection)
    assert {sql: await refused(connection, sql) for sql in RULES} == RULES


async def test_a_transaction_that_fails_leaves_nothing(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        pool = await asyncpg.create_pool(database_url, min_size=1, max_size=1)
        stack.push_async_callback(pool.close)
        with pytest.raises(asyncpg.CheckViolationError):  # noqa: PT012
            async with transaction(pool, lock_timeout_ms=1000) as tx:
                await tx.execute("INSERT INTO directory VALUES ('a', 1)")
                await tx.execute("INSERT INTO member VALUES (1, 1, 1, '', '', '', -1)")
        async with transaction(pool, lock_timeout_ms=1234) as tx:
            assert await tx.fetchval("SHOW lock_timeout") == "1234ms"
            assert await tx.fetchval("SHOW synchronous_commit") == "on"
            assert await tx.fetchval("SELECT count(*) FROM directory") == 0
        assert await pool.fetchval("SHOW lock_timeout") == "0"
