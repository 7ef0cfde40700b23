"""What each index, key, guard and extra costs: lifecycles in process at 64 clients with one of them taken away.

Each variant runs beside the unchanged product, in alternating runs on two fresh copies of one filled database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import asyncpg
import uvloop

from bench import in_process, seed
from bench.figures import Report, Run
from bench.in_process import Groups
from bench.scratch import Scratch, backend_seconds
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
    return replace(command, redemption=replace(command.redemption, external_reference=None))


def _with_key(command: Submit) -> Submit:
    return replace(command, idempotency_key=str(command.request_id), idempotency_digest=command.content_digest)


VARIANTS = (
    Variant("nothing taken away (the noise)"),
    Variant("foreign keys, all", _DROP_EACH.format(query=_CONSTRAINTS.format(kind="f"))),
    Variant("CHECK constraints, all", _DROP_EACH.format(query=_CONSTRAINTS.format(kind="c"))),
    Variant("guard triggers, all", _DROP_EACH.format(query=_TRIGGERS)),
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


def costs(server: Scratch, report: Report) -> None:
    """Print what each one costs."""
    print(
        f"\nwhat each costs: lifecycles in process at {CLIENTS}, with it taken away; medians of {PAIRS} pairs of "
        f"{SECONDS:g} s\n  {'':44}{'lifecycles/s':>14}{'database CPU':>14}{'process CPU':>13}"
    )
    uvloop.run(_fill(server))
    for variant in VARIANTS:
        gains = uvloop.run(_compare(server, variant))
        for number in range(PAIRS):
            report.add(f"costs {variant.name}", gains[number])
        run = report.median(f"costs {variant.name}")
        print(
            f"  {variant.name:44}{run.rate:+13.1%} {run.database_cpu_us:+13.1%} {run.server_cpu_us:+12.1%}",
            flush=True,
        )
    for name in ("filled", "variant", "unchanged"):
        uvloop.run(server.drop(name))


async def _fill(server: Scratch) -> None:
    """A database with a history, so that plans and index sizes are those of use."""
    url = await server.create("filled")
    await seed.seed(url, seed.THE_ONE)
    groups = Groups()
    async with in_process.product(url, seed.THE_ONE.ids, groups) as lifecycle:
        for number in range(3):
            await in_process.measure(
                lifecycle, [seed.THE_ONE], run=f"fill{number}", clients=CLIENTS, seconds=1.5, groups=groups
            )
            await seed.analyze(url)


async def _compare(server: Scratch, variant: Variant) -> list[Run]:
    urls = {name: await server.create(name, "filled") for name in ("unchanged", "variant")}
    if variant.ddl:
        connection = await asyncpg.connect(urls["variant"])
        await connection.execute(variant.ddl)
        await connection.close()
    groups = Groups()
    measured: dict[str, list[Run]] = {"unchanged": [], "variant": []}
    async with (
        in_process.product(urls["unchanged"], seed.THE_ONE.ids, groups) as unchanged,
        in_process.product(urls["variant"], seed.THE_ONE.ids, groups, variant.vary) as varied,
    ):
        both = {"unchanged": unchanged, "variant": varied}
        used = {name: partial(backend_seconds, server.postmaster, name) for name in both}
        for number in range(-1, PAIRS):
            for name in sorted(both, reverse=number % 2 == 0):  # whoever is second may find a warmer machine
                with _Unwritten(variant.unwritten if name == "variant" else ()):
                    run = await in_process.measure(
                        both[name], [seed.THE_ONE], run=f"{name[0]}{number}", clients=CLIENTS, groups=groups,
                        seconds=SECONDS if number >= 0 else WARM_SECONDS, database_seconds=used[name],
                    )  # fmt: skip
                if number >= 0:
                    measured[name].append(run)
    pairs = zip(measured["variant"], measured["unchanged"], strict=True)
    return [
        Run(
            rate=one.rate / two.rate - 1,
            server_cpu_us=one.server_cpu_us / two.server_cpu_us - 1,
            database_cpu_us=one.database_cpu_us / two.database_cpu_us - 1,
        )
        for one, two in pairs
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
