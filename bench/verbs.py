"""(e) The verbs in process at three concurrencies, beside the careful way by hand."""

from __future__ import annotations

import asyncpg
import uvloop

from bench import in_process, scratch, seed
from bench.figures import AT_LEAST, Report
from bench.in_process import Groups

ROUNDS = 3
SECONDS = 1.2
WARM_SECONDS = 0.4
CONCURRENCIES = (1, 8, 64)
LABELS = {"by hand": "by hand, pool of 8", "product": "product, everything on, pool of 4"}


def compare_with_hand_written(server: scratch.Scratch, report: Report) -> None:
    """Lifecycles per second of both, in alternating rounds."""
    print("\n(e) submit and approve in process; p50 and p99 are the submission's, server is this process")
    uvloop.run(_compare(server, report))
    report.print_runs([name for name in report.rounds if name.startswith("e ")])
    for clients, bound in ((64, 1.0), (8, None), (1, 0.25)):
        ratio = report.ratio(f"e product, {clients} clients", f"e by hand, {clients} clients")
        if bound is None:
            print(f"  at {clients}: {ratio:.2f} x the way by hand")
        else:
            report.target(f"(e) lifecycles/s in process at {clients}, x by hand", ratio, AT_LEAST, bound)


async def _compare(server: scratch.Scratch, report: Report) -> None:
    url = await server.create("verbs")
    await seed.seed(url, seed.THE_ONE)
    connection = await asyncpg.connect(url)
    await _execute_all(connection, in_process.BY_HAND["tables"])
    await connection.close()
    groups = Groups()
    async with (
        in_process.product(url, seed.THE_ONE.ids, groups) as product,
        in_process.by_hand(url) as by_hand,
    ):
        for number in range(-1, ROUNDS):  # the first round warms up
            if number == 0:
                await seed.analyze(url)
            for clients in CONCURRENCIES:
                for name, lifecycle in (("product", product), ("by hand", by_hand)):
                    run = await in_process.measure(
                        lifecycle, [seed.THE_ONE], run=f"e{number}.{clients}", clients=clients, groups=groups,
                        seconds=WARM_SECONDS if number < 0 else SECONDS, database_seconds=server.cpu_seconds,
                    )  # fmt: skip
                    if number >= 0:
                        report.add(f"e {name}, {clients} clients", run)
    report.notes += [f"(e) {each}" for each in await seed.broken_rules(url)]
    await server.drop("verbs")


async def _execute_all(connection: asyncpg.Connection[asyncpg.Record], script: str) -> None:
    for statement in script.split(";\n"):  # VACUUM refuses to share a transaction with others
        await connection.execute(statement)
