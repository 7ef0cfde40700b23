"""What each index, key, guard and extra costs: lifecycles in process with one of them taken away.

Each variant runs beside the unchanged product, batch by batch, on two fresh copies of one filled database. What is
compared is the CPU time that the kernel counts for the two backends: other programs hardly touch it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median, quantiles
from types import MappingProxyType
from typing import Any

import asyncpg
import uvloop
from msgspec.structs import replace

from bench import in_process, seed
from bench.figures import Report
from bench.in_process import Groups
from bench.scratch import Scratch
from counterfoil.application import requests as verbs
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import Redemption
from counterfoil.domain.requests import Request, State, Submit
from counterfoil.storage import changes, database, organisations

BATCH = 32
PAIRS, WARM_PAIRS = 100, 10

# Constraints and triggers of all tables that a lifecycle writes to.
_DROP_EACH = """
DO $$ DECLARE found record; BEGIN
    FOR found IN {query} LOOP EXECUTE found.statement; END LOOP;
END $$
"""
_CONSTRAINTS = """
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS statement
FROM pg_constraint WHERE contype = '{kind}' AND connamespace = 'public'::regnamespace"""
_TRIGGERS = """
SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) AS statement FROM pg_trigger WHERE NOT tgisinternal"""


@dataclass(frozen=True, slots=True)
class Variant:
    """The product without one thing, or with one more."""

    name: str
    ddl: str = ""
    unwritten: Sequence[str] = ()  # blocks of changes.sql that write nothing
    vary: Callable[[Submit], Submit] = in_process.as_it_is


def _without_reference(command: Submit) -> Submit:
    asked = command.asked
    return replace(command, asked=replace(asked, external_reference=None)) if isinstance(asked, Redemption) else command


def _with_key(command: Submit) -> Submit:
    return replace(command, idempotency_key=str(command.request_id), idempotency_digest=command.content_digest)


# hold_open and request_by_reference are not here: what locks and reads a batch needs them, and without them it scans.
VARIANTS = (
    Variant("nothing taken away (the noise)"),
    Variant("foreign keys, all", _DROP_EACH.format(query=_CONSTRAINTS.format(kind="f"))),
    Variant("CHECK constraints, all", _DROP_EACH.format(query=_CONSTRAINTS.format(kind="c"))),
    Variant("guard triggers, all", _DROP_EACH.format(query=_TRIGGERS)),
    Variant("index lot_spendable", "DROP INDEX lot_spendable"),
    Variant("index request_by_start", "DROP INDEX request_by_start"),
    Variant("index request_open", "DROP INDEX request_open"),
    Variant("index redemption_request_unique", "DROP INDEX redemption_request_unique"),
    Variant("index lot_reference_unique", "ALTER TABLE lot DROP CONSTRAINT lot_reference_unique"),
    Variant("external references: index, twins, claim", vary=_without_reference),
    Variant("audit events", unwritten=("events",)),
    Variant("journals and postings", unwritten=("journals", "postings")),
    Variant("an Idempotency-Key more on each create", vary=_with_key),
    Variant("waiting for the disk", "ALTER DATABASE variant SET synchronous_commit = off"),
)


@dataclass(frozen=True, slots=True)
class Gain:
    """What taking it away changes, as shares of the unchanged product. `margin` is of database_cpu."""

    database_cpu: float
    margin: float
    process_cpu: float
    wal: float


@dataclass(frozen=True, slots=True)
class Used:
    """What one batch of whole lifecycles took."""

    database_cpu: float
    process_cpu: float
    wal: float


def costs(server: Scratch, report: Report) -> None:
    """Print what each one costs."""
    print(
        f"\nwhat each costs: {BATCH} lifecycles in two batches on one connection, with it taken away, beside the "
        f"unchanged product, batch by batch;\nmedians of {PAIRS} pairs, ± is the 95 % interval of the median\n"
        f"  {'':44}{'database CPU':>14}{'±':>8}{'process CPU':>13}{'WAL bytes':>12}"
    )
    uvloop.run(_fill(server))
    for variant in VARIANTS:
        gain = uvloop.run(_compare(server, variant))
        report.costs[variant.name] = asdict(gain)
        print(
            f"  {variant.name:44}{gain.database_cpu:+13.1%} {gain.margin:7.1%} {gain.process_cpu:+12.1%} "
            f"{gain.wal:+11.1%}",
            flush=True,
        )
    for name in ("filled", "variant", "unchanged"):
        uvloop.run(server.drop(name))


async def _fill(server: Scratch) -> None:
    """A database with a history, so that plans and index sizes are those of use."""
    # Whole pages in the log depend on when a page was touched first: without them the log's size says what a
    # lifecycle writes.
    await _execute(server.handle.url, "ALTER SYSTEM SET full_page_writes = off")
    await _execute(server.handle.url, "SELECT pg_reload_conf()")
    url = await server.create("filled")
    await seed.seed(url, seed.THE_ONE)
    groups = Groups()
    async with in_process.product(url, seed.THE_ONE.ids, groups) as lifecycle:
        for number in range(3):
            await in_process.measure(
                lifecycle, [seed.THE_ONE], run=f"fill{number}", clients=BATCH, seconds=1.5, groups=groups
            )
            await seed.analyze(url)


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


class _Side:
    """One of the two databases that are compared, on one connection."""

    def __init__(self, name: str, pool: Any, organisation: Organisation, pid: int) -> None:
        self._name = name
        self._pool = pool
        self._organisation = organisation
        self._schedule = Path(f"/proc/{pid}/schedstat")
        self._count = 0
        self._people = [in_process.actor_of(organisation, each) for each in (seed.MAKER, seed.CHECKER)]

    def _seconds(self) -> float:
        """What its backend has run so far."""
        return int(self._schedule.read_text(encoding="ascii").split()[0]) / 1e9

    async def run(self, watch: Any, variant: Variant | None) -> Used:
        """A batch of submissions, then a batch of their approvals."""
        maker, checker = self._people
        submissions = []
        for _ in range(BATCH):
            self._count += 1
            reference = f"{self._name}{self._count}"
            command = in_process.submit_command(
                self._organisation, maker, self._count * 7 % seed.THE_ONE.members, reference
            )
            submissions.append(variant.vary(command) if variant else command)
        decisions = [in_process.decide_command(checker, each.request_id) for each in submissions]
        wal, cpu, own = await _wal_bytes(watch), self._seconds(), time.process_time()
        with _Unwritten(variant.unwritten if variant else ()):
            async with database.transaction(self._pool, lock_timeout_ms=5000) as tx:
                made = await verbs.submit_requests(tx, self._organisation, submissions)
            async with database.transaction(self._pool, lock_timeout_ms=5000) as tx:
                done = await verbs.decide_requests(tx, self._organisation, decisions)
        used = Used(self._seconds() - cpu, time.process_time() - own, await _wal_bytes(watch) - wal)
        ended = [each for each in done if isinstance(each, Request) and each.state is State.SUCCEEDED]
        if len(ended) != BATCH or any(not isinstance(each, Request) or each.flags for each in made):
            raise AssertionError(f"not executed: {made[:1]} {done[:1]}")
        return used


async def _wal_bytes(connection: Any) -> int:
    return int(await connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


async def _open_side(stack: AsyncExitStack, name: str, url: str) -> _Side:
    pool = await database.open_pool(url, size=1)
    stack.push_async_callback(pool.close)
    async with pool.acquire() as connection:
        organisation = await organisations.find_organisation(connection, seed.THE_ONE.first)
        pid = connection.get_server_pid()
    if organisation is None:
        raise TypeError("the organisation is seeded (this is a bug)")
    return _Side(name, pool, organisation, pid)


async def _compare(server: Scratch, variant: Variant) -> Gain:
    """Batches of both alternate, so that what disturbs the machine disturbs both alike."""
    urls = {name: await server.create(name, "filled") for name in ("unchanged", "variant")}
    if variant.ddl:
        await _execute(urls["variant"], variant.ddl)
    async with AsyncExitStack() as stack:
        watch = await asyncpg.connect(server.handle.url)
        stack.push_async_callback(watch.close)
        unchanged, varied = [await _open_side(stack, name, url) for name, url in urls.items()]
        pairs: list[tuple[Used, Used]] = []
        for number in range(-WARM_PAIRS, PAIRS):
            if number % 2:  # whoever is second may find a warmer machine
                one, two = await varied.run(watch, variant), await unchanged.run(watch, None)
            else:
                two, one = await unchanged.run(watch, None), await varied.run(watch, variant)
            if number >= 0:
                pairs.append((one, two))
    shares = {
        each.name: [getattr(one, each.name) / getattr(two, each.name) - 1 for one, two in pairs]
        for each in fields(Used)
    }
    low, _, high = quantiles(shares["database_cpu"], n=4)
    return Gain(
        margin=1.57 * (high - low) / len(pairs) ** 0.5, **{name: median(values) for name, values in shares.items()}
    )


class _Unwritten:
    """Blocks of changes.sql write nothing meanwhile; the arrays still go to the server."""

    def __init__(self, blocks: Sequence[str]) -> None:
        self._blocks = blocks
        self._before: Mapping[str, str] = changes._SQL  # noqa: SLF001 - the one place where a statement is changed

    def __enter__(self) -> None:
        altered: dict[str, Any] = {name: f"{changes._SQL[name]}\nWHERE false" for name in self._blocks}  # noqa: SLF001
        changes._SQL = MappingProxyType({**self._before, **altered})  # noqa: SLF001
        changes._statement.cache_clear()  # noqa: SLF001

    def __exit__(self, *_: object) -> None:
        changes._SQL = self._before  # noqa: SLF001
        changes._statement.cache_clear()  # noqa: SLF001
