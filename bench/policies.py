"""(h) A create and a decision under a policy of 5 rules and 3 requirements, and under a cap that all makers share."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import asyncpg
import uvloop

from bench import in_process, scratch, seed
from bench.figures import AT_LEAST, Report, Run, percentile
from bench.in_process import Groups
from bench.scratch import machine_seconds
from counterfoil.application import requests as verbs
from counterfoil.application.group_commit import GroupCommit, Limits
from counterfoil.domain.access import Actor
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.requests import Request, State
from counterfoil.settings import Settings
from counterfoil.storage import database, organisations

ROUNDS: Final = 3
CLIENTS: Final = 64
REQUESTS: Final = 1_500
CHECKERS: Final = ("checker@bench", "zone@bench", "finance@bench")
DEFAULT, RULES, CAP = (seed.Organisations(first, 1, 2_000) for first in (51250, 51251, 51252))
_NEEDS: Final = [{"count": 1}, {"count": 1, "level": "zone"}, {"count": 1, "group": "finance"}]
# Four rules that ask for something and do not apply, and the one that does.
_RULES: Final = [
    {"name": "night", "when": {"from_minute": 0, "until_minute": 1}, "needs": _NEEDS},
    {"name": "badges", "when": {"types": ["EARN-BADGE", "ISSUE-BADGE"]}, "needs": _NEEDS},
    {"name": "elsewhere", "when": {"units": [1], "any_of": [{"above": 5}, {"logins": ["x"]}]}, "needs": _NEEDS},
    {"name": "large", "when": {"above": 10_000_000, "maker_groups": ["finance"]}, "needs": _NEEDS},
    {"name": "rest", "needs": _NEEDS, "life_hours": 48, "comment_above": 500},
]
_CAPS: Final = [{"name": "everybody", "per": "day", "points": 10**15}]
DOCUMENTS: Final = {
    DEFAULT: {"approvals": 1},
    RULES: {"approvals": 1, "rules": _RULES},
    CAP: {"approvals": 1, "caps": _CAPS, "counts": True},
}
NAMES: Final = {DEFAULT: "default policy", RULES: "5 rules, 3 requirements", CAP: "a cap of all makers"}


def compare_policies(server: scratch.Scratch, report: Report) -> None:
    """Each call under each policy, in alternating rounds."""
    print(f"\n(h) {REQUESTS} creates, then as many decisions, {CLIENTS} clients, in process")
    uvloop.run(_compare(server, report))
    report.print_runs([name for name in report.rounds if name.startswith("h ")])
    for call in ("create", "first voice", "last voice"):
        base = f"h {'decision' if 'voice' in call else call}, {NAMES[DEFAULT]}"
        ratio = report.ratio(f"h {call}, {NAMES[RULES]}", base)
        report.target(f"(h) {call} with 5 rules and 3 requirements, x that of the default policy", ratio, AT_LEAST, 0.7)
    for call in ("create", "decision"):
        ratio = report.ratio(f"h {call}, {NAMES[CAP]}", f"h {call}, {NAMES[DEFAULT]}")
        print(f"  a daily cap shared by all makers: {call} at {ratio:.2f} x that without")


async def _compare(server: scratch.Scratch, report: Report) -> None:
    url = await server.create("policies")
    await seed.seed(url, *DOCUMENTS)
    await _prepare(url)
    settings, groups = Settings(), Groups()
    pool = await database.open_pool(url, size=settings.pool_size, statement_cache=settings.statement_cache)
    for number in range(-1, ROUNDS):  # the first round warms up
        for where in DOCUMENTS:
            async with pool.acquire() as connection:
                organisation = await organisations.find_organisation(connection, where.first)
            if organisation is None:
                raise TypeError("the organisations are seeded (this is a bug)")
            runs = await _round(pool, organisation, where, groups, number, server)
            if number >= 0:
                for name, run in runs.items():
                    report.add(f"h {name}, {NAMES[where]}", run)
        if number < 0:
            await seed.analyze(url)
    await pool.close()
    if groups.troubles:
        report.notes.append(f"(h) the run is worth nothing: {groups.troubles[:3]}")
    report.notes += [f"(h) {each}" for each in await seed.broken_rules(url)]
    await server.drop("policies")


async def _prepare(url: str) -> None:
    connection = await asyncpg.connect(url)
    for where, document in DOCUMENTS.items():
        for number, person in enumerate(CHECKERS[1:], start=1):
            await connection.execute("INSERT INTO person VALUES ($1, $2, $2, true)", where.first, person)
            await connection.execute(
                "INSERT INTO app_user (org_id, user_id, user_name, person_id) VALUES ($1, $2, $3, $3)",
                where.first, number, person,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO access_grant (org_id, grant_id, person_id, unit_id, access_right) "
                "VALUES ($1, gen_random_uuid(), $2, 50682286, 'CanCheckRequest')", where.first, person,
            )  # fmt: skip
        await connection.execute("INSERT INTO person_group VALUES ($1, 'finance', 'Finance')", where.first)
        await connection.execute("INSERT INTO person_group_member VALUES ($1, 'finance', $2)", where.first, CHECKERS[2])
        await connection.execute("UPDATE policy SET document = $2 WHERE org_id = $1", where.first, json.dumps(document))
    await connection.close()


async def _round(
    pool: database.Pool,
    organisation: Organisation,
    where: seed.Organisations,
    groups: Groups,
    number: int,
    server: scratch.Scratch,
) -> dict[str, Run]:
    """Create the requests, then decide each as often as the policy wants."""
    settings = Settings()
    limits = Limits(settings.queue_max, settings.batch_max, settings.lock_timeout_ms)
    submissions: GroupCommit[Any, Any] = GroupCommit(
        "submit", pool, lambda tx, _o, commands: verbs.submit_requests(tx, organisation, commands), limits, groups
    )
    decisions: GroupCommit[Any, Any] = GroupCommit(
        "decide", pool, lambda tx, _o, commands: verbs.decide_requests(tx, organisation, commands), limits, groups
    )
    maker = in_process.actor_of(organisation, seed.MAKER)
    made: list[Request] = []

    async def create(index: int) -> None:
        command = in_process.submit_command(
            organisation, maker, index % where.members, f"g{where.first}.{number}.{index}"
        )
        outcome = await submissions.submit(where.first, command)
        if not isinstance(outcome, Request) or outcome.flags:
            raise AssertionError(f"not submitted: {outcome}")
        made.append(outcome)

    runs = {"create": await _timed(create, groups, server)}
    voices: Sequence[str] = CHECKERS if where is RULES else CHECKERS[:1]
    names = ("first voice", "second voice", "last voice") if where is RULES else ("decision",)
    for name, person in zip(names, voices, strict=True):
        checker: Actor = in_process.actor_of(organisation, person)
        wanted = State.SUCCEEDED if name in ("last voice", "decision") else State.PENDING

        async def decide(index: int, checker: Actor = checker, wanted: State = wanted) -> None:
            outcome = await decisions.submit(where.first, in_process.decide_command(checker, made[index].request_id))
            if not isinstance(outcome, Request) or outcome.state is not wanted:
                raise AssertionError(f"not decided: {outcome}")

        runs[name] = await _timed(decide, groups, server)
    return runs


async def _timed(call: Callable[[int], Awaitable[None]], groups: Groups, server: scratch.Scratch) -> Run:
    """Make all calls with so many clients."""
    waiting = iter(range(REQUESTS))
    times: list[float] = []

    async def client() -> None:
        for index in waiting:
            started_at = time.perf_counter()
            await call(index)
            times.append(time.perf_counter() - started_at)

    commands, batches = groups.commands, groups.batches
    database_cpu, others = server.cpu_seconds(), machine_seconds()
    cpu, started_at = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    passed, cpu = time.perf_counter() - started_at, time.process_time() - cpu
    database_cpu = server.cpu_seconds() - database_cpu
    others = machine_seconds() - others - cpu - database_cpu
    times.sort()
    return Run(
        rate=len(times) / passed,
        p50_us=percentile(times, 0.5) * 1e6,
        p99_us=percentile(times, 0.99) * 1e6,
        server_cpu_us=cpu / len(times) * 1e6,
        database_cpu_us=database_cpu / len(times) * 1e6,
        group=(groups.commands - commands) / max(1, groups.batches - batches),
        count=len(times),
        others=max(0.0, others) / passed,
    )
