"""(g) the first page of the inbox of a checker with 50 grants in a chain of 200 stores: few and many pending."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import asyncpg
import uvloop

from bench import seed, servers
from bench.figures import AT_MOST, Report
from bench.scratch import Scratch
from bench.servers import Server

ROUNDS = 5
SECONDS = 1.0
PAGE = "/counterfoil/v1/inbox"
_CHAIN = seed.Organisations(seed.THE_ONE.first, 1, 1000)


class Size(NamedTuple):
    """So many requests, so many of them pending."""

    stored: int
    pending: int

    @property
    def text(self) -> str:
        """For names of rounds."""
        return f"{self.pending:,} pending among {self.stored:,}"


FEW, MANY, VERY_MANY = Size(1000, 100), Size(100_000, 10_000), Size(1_000_000, 100_000)


def first_page(server: Scratch, report: Report) -> None:
    """(g) 100 pending among 1 k, and 10 k among 100 k."""
    compare(server, report, (FEW, MANY))


def first_page_among_a_million(server: Scratch, report: Report) -> None:
    """(g) 100 pending among 1 k, and 100 k among 1 M."""
    compare(server, report, (FEW, VERY_MANY))


async def _seeded(server: Scratch, size: Size) -> str:
    url = await server.create(f"inbox_{size.stored}")
    await seed.seed(url, _CHAIN, stored=size.stored, pending=size.pending, chain=True)
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM access_grant WHERE person_id = 'checker@bench'") == 50
    finally:
        await connection.close()
    return url


def compare(server: Scratch, report: Report, sizes: Sequence[Size]) -> None:
    """Alternating rounds; the services have the same keys, so a token of one is good for the other."""
    print(f"\n(g) first page of an inbox over HTTP, {' and '.join(size.text for size in sizes)}")
    callers = _CHAIN.callers()
    with ExitStack() as stack:
        load = stack.enter_context(servers.load_generator(server))
        running: dict[Size, Server] = {}
        for size in sizes:
            running[size] = stack.enter_context(servers.serve(server, uvloop.run(_seeded(server, size))))
            running[size].sign_in(callers)
        for number in range(-1, ROUNDS):
            for size, ours in running.items():
                for clients in (1, 16):
                    run = load.measure(
                        ours, "get", callers, connections=clients, seconds=SECONDS if number >= 0 else 0.3, paths=[PAGE]
                    )[0]
                    if number >= 0:
                        report.add(f"g inbox, {size.text}, {clients} client{'s' * (clients > 1)}", run)
    report.print_runs([name for name in report.rounds if name.startswith("g ")])
    name = "g inbox, {}, 1 client"
    ratio = report.ratio(name.format(sizes[-1].text), name.format(sizes[0].text), "p50_us")
    report.target(f"(g) p50 of the first page, {sizes[-1].text}, x {sizes[0].text}", ratio, AT_MOST, 1.5)
    for size in sizes:
        uvloop.run(server.drop(f"inbox_{size.stored}"))
