"""What each index, key, guard and extra costs: lifecycles in process at 64 clients with one of them taken away.

Each variant runs beside the unchanged product, in alternating runs on two fresh copies of one filled database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from statistics import median
from types import MappingProxyType
from typing import Any

import asyncpg
import uvloop

from bench import in_process, seed
from bench.figures import Report, Run
from bench.in_process import Groups
from bench.scratch import Scratch, backend_seconds
from counterfoil.domain.payloads import Redemption
from counterfoil.domain.requests import Submit
from counterfoil.storage import changes

CLIENTS = 64
PAIRS = 3
SECONDS, WARM_SECONDS = 0.7, 0.3

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
    """What taking it away changes, as shares of the unchanged product."""

    rate: float
    wal: float
    database_cpu: float
    process_cpu: float


def costs(server: Scratch, report: Report) -> None:
    """Print what each one costs."""
    print(
        f"\nwhat each costs: lifecycles in process at {CLIENTS}, with it taken away; medians of {PAIRS} pairs of "
        f"{SECONDS:g} s\n  {'':44}{'lifecycles/s':>14}{'WAL bytes':>12}{'database CPU':>14}{'process CPU':>13}"
    )
    uvloop.run(_fill(server))
    for variant in VARIANTS:
        gains = uvloop.run(_compare(server, variant))
        gain = Gain(*(median(getattr(each, name.name) for each in gains) for name in fields(Gain)))
        report.costs[variant.name] = asdict(gain)
        print(
            f"  {variant.name:44}{gain.rate:+13.1%} {gain.wal:+11.1%} {gain.database_cpu:+13.1%} "
            f"{gain.process_cpu:+12.1%}",
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
                lifecycle, [seed.THE_ONE], run=f"fill{number}", clients=CLIENTS, seconds=1.5, groups=groups
            )
            await seed.analyze(url)


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _wal_bytes(connection: Any) -> int:
    return int(await connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


async def _compare(server: Scratch, variant: Variant) -> list[Gain]:
    urls = {name: await server.create(name, "filled") for name in ("unchanged", "variant")}
    if variant.ddl:
        await _execute(urls["variant"], variant.ddl)
    groups = Groups()
    measured: dict[str, list[tuple[Run, float]]] = {"unchanged": [], "variant": []}
    watch = await asyncpg.connect(server.handle.url)
    async with (
        in_process.product(urls["unchanged"], seed.THE_ONE.ids, groups) as unchanged,
        in_process.product(urls["variant"], seed.THE_ONE.ids, groups, variant.vary) as varied,
    ):
        both = {"unchanged": unchanged, "variant": varied}
        used = {name: partial(backend_seconds, server.postmaster, name) for name in both}
        for number in range(-1, PAIRS):
            for name in sorted(both, reverse=number % 2 == 0):  # whoever is second may find a warmer machine
                before = await _wal_bytes(watch)
                with _Unwritten(variant.unwritten if name == "variant" else ()):
                    run = await in_process.measure(
                        both[name], [seed.THE_ONE], run=f"{name[0]}{number}", clients=CLIENTS, groups=groups,
                        seconds=SECONDS if number >= 0 else WARM_SECONDS, database_seconds=used[name],
                    )  # fmt: skip
                if number >= 0:
                    measured[name].append((run, (await _wal_bytes(watch) - before) / run.count))
    await watch.close()
    pairs = zip(measured["variant"], measured["unchanged"], strict=True)
    return [
        Gain(
            rate=one.rate / two.rate - 1,
            wal=one_wal / two_wal - 1,
            database_cpu=one.database_cpu_us / two.database_cpu_us - 1,
            process_cpu=one.server_cpu_us / two.server_cpu_us - 1,
        )
        for (one, one_wal), (two, two_wal) in pairs
    ]


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
