"""(a) to (d) and (f): what a client sees of `counterfoil serve`, beside the yardstick in the same rounds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from hashlib import md5
from typing import Any
from uuid import UUID

import asyncpg
import uvloop

from bench import contract, in_process, seed, servers, yardstick
from bench.figures import AT_LEAST, AT_MOST, Report
from bench.scratch import Scratch
from bench.servers import Load, Server

ROUNDS = 3
CLIENTS = 64
SECONDS, SECONDS_ALONE = 2.0, 1.0
STORED, STORED_LARGE, PENDING = 1000, 1_000_000, 100
PENDING_PAGE = f"{contract.LIST_PATH}?states=AdminTask&PageNo=0&limit=10"
ANY_PAGE = f"{contract.LIST_PATH}?PageNo=0&limit=10"
_READERS = seed.Organisations(seed.THE_ONE.first, 1, 1000)


async def _yardstick_database(server: Scratch) -> str:
    url = await server.create("yardstick")
    connection = await asyncpg.connect(url)
    await connection.execute(yardstick.TABLE)
    await connection.close()
    return url


async def _seeded(server: Scratch, name: str, *organisations: seed.Organisations, **stored: Any) -> str:
    url = await server.create(name)
    await seed.seed(url, *organisations, **stored)
    return url


def creates_and_lifecycles(server: Scratch, report: Report) -> None:
    """(a) the yardstick, (b) create, (c) create and approve, at 1 and at 64 clients."""
    print("\n(a) yardstick, (b) create, (c) create and approve, over HTTP")
    url = uvloop.run(_seeded(server, "http", seed.THE_ONE))
    callers = seed.THE_ONE.callers()
    with (
        servers.yardstick(server, uvloop.run(_yardstick_database(server))) as plain,
        servers.serve(server, url) as ours,
        servers.load_generator(server) as load,
    ):
        ours.sign_in(callers)
        for number in range(-1, ROUNDS):  # the first round warms up
            if number == 0:
                uvloop.run(seed.analyze(url))
            for clients, seconds in ((1, SECONDS_ALONE), (CLIENTS, SECONDS)):
                given: dict[str, Any] = {"connections": clients, "seconds": seconds if number >= 0 else 0.5}
                runs = {
                    "a yardstick": load.measure(plain, "yardstick", callers, **given)[:1],
                    "b create": load.measure(ours, "create", callers, **given)[:1],
                    "c lifecycle": load.measure(ours, "lifecycle", callers, **given),
                }
                for name, (first, *rest) in runs.items():
                    if number >= 0:
                        report.add(f"{name}, {_clients(clients)}", first)
                    if number >= 0 and rest:
                        report.add(f"c … times of its approval, {_clients(clients)}", rest[0])
    report.print_runs([name for name in report.rounds if name[0] in "abc"])
    at, alone = _clients(CLIENTS), _clients(1)
    report.target("(b) creates/s, x yardstick", report.ratio(f"b create, {at}", f"a yardstick, {at}"), AT_LEAST, 0.5)
    report.target(
        "(c) lifecycles/s, x yardstick's requests/s",
        report.ratio(f"c lifecycle, {at}", f"a yardstick, {at}"), AT_LEAST, 0.25,
    )  # fmt: skip
    report.target(
        "(b) create p50 of one client, x yardstick",
        report.ratio(f"b create, {alone}", f"a yardstick, {alone}", "p50_us"), AT_MOST, 3,
    )  # fmt: skip
    for name in ("b create", "c lifecycle"):
        ratio = report.cpu_ratio(f"a yardstick, {at}", f"{name}, {at}")
        print(f"  CPU of a yardstick's request, all processes, as a share of that of a {name[2:]}: {ratio:.2f}")
    report.notes += [f"(b, c) {each}" for each in uvloop.run(seed.broken_rules(url))]
    for name in ("http", "yardstick"):
        uvloop.run(server.drop(name))


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _request_ids(stored: int) -> list[str]:
    """Fifty of the stored requests, from all over the year; seed.sql makes their ids."""
    numbers = range(1, stored, stored // 50)
    return [str(UUID(md5(str(number).encode(), usedforsecurity=False).hexdigest())) for number in numbers]


def _read_round(
    load: Load, ours: Server, callers: Sequence[contract.Caller], stored: int, report: Report | None
) -> None:
    paths = {
        "get one": [f"{contract.LIST_PATH}/{each}" for each in _request_ids(stored)],
        "first page of the pending": [PENDING_PAGE],
        "first page of all": [ANY_PAGE],
    }
    for name, wanted in paths.items():
        for clients in (1, 16):
            if name == "first page of all" and clients > 1 and stored > STORED:
                continue  # its exact total is counted row by row: a quarter of a second each
            run = load.measure(ours, "get", callers, connections=clients, seconds=SECONDS_ALONE, paths=wanted)[0]
            if report is not None:
                report.add(f"d {name} among {stored:,}, {_clients(clients)}", run)


def reads(server: Scratch, report: Report) -> None:
    """(d) get one and the contract's list, with 100 pending among 1 k."""
    print(f"\n(d) reads over HTTP, {PENDING} pending among {STORED:,}")
    _read(server, report, (STORED,), ROUNDS)


def reads_among_a_million(server: Scratch, report: Report) -> None:
    """(d) the same among 1 k and among 1 M, in alternating rounds."""
    print(f"\n(d) reads over HTTP, {PENDING} pending among {STORED:,} and among {STORED_LARGE:,}")
    _read(server, report, (STORED, STORED_LARGE), 5)
    name = "d first page of the pending among {:,}, 1 client"
    ratio = report.ratio(name.format(STORED_LARGE), name.format(STORED), "p50_us")
    report.target("(d) p50 of the pending page among 1 M, x among 1 k", ratio, AT_MOST, 1.5)


def _read(server: Scratch, report: Report, sizes: Sequence[int], rounds: int) -> None:
    callers = _READERS.callers()
    with ExitStack() as stack:
        load = stack.enter_context(servers.load_generator(server))
        running: dict[int, Server] = {}
        for stored in sizes:
            url = uvloop.run(_seeded(server, f"reads_{stored}", _READERS, stored=stored, pending=PENDING))
            running[stored] = stack.enter_context(servers.serve(server, url))
            running[stored].sign_in(callers)
        for number in range(-1, rounds):
            for stored, ours in running.items():
                # The services have the same keys, so a token of one is good for the other.
                _read_round(load, ours, callers, stored, None if number < 0 else report)
    report.print_runs([name for name in report.rounds if name.startswith("d ")])
    for stored in sizes:
        uvloop.run(server.drop(f"reads_{stored}"))


def organisations(server: Scratch, report: Report) -> None:
    """(f) 64 organisations with a client each against one with 64: groups do not form across organisations."""
    print("\n(f) lifecycles of 64 clients: one organisation, or 64 of one client each")
    url = uvloop.run(_seeded(server, "organisations", seed.THE_ONE, seed.THE_MANY))
    uvloop.run(_organisations_in_process(server, url, report))
    one, many = seed.THE_ONE.callers(), seed.THE_MANY.callers()
    with servers.serve(server, url) as ours, servers.load_generator(server) as load:
        ours.sign_in([*one, *many])
        load.introduce(ours, [*one, *many])
        for number in range(-1, ROUNDS):
            if number == 0:
                uvloop.run(seed.analyze(url))
            for name, callers in (("one organisation", one), ("64 organisations", many)):
                run = load.measure(ours, "lifecycle", callers, connections=CLIENTS, seconds=SECONDS)[0]
                if number >= 0:
                    report.add(f"f {name}, over HTTP", run)
    report.print_runs([name for name in report.rounds if name.startswith("f ")])
    for where in ("over HTTP", "in process"):
        ratio = report.ratio(f"f 64 organisations, {where}", f"f one organisation, {where}")
        report.target(f"(f) 64 organisations of one client, x one of 64, {where}", ratio, AT_LEAST, 0.3)
    report.notes += [f"(f) {each}" for each in uvloop.run(seed.broken_rules(url))]
    uvloop.run(server.drop("organisations"))


async def _organisations_in_process(server: Scratch, url: str, report: Report) -> None:
    groups = in_process.Groups()
    async with in_process.product(url, [*seed.THE_ONE.ids, *seed.THE_MANY.ids], groups) as lifecycle:
        for number in range(-1, ROUNDS):
            if number == 0:
                await seed.analyze(url)
            for name, where in (("one organisation", seed.THE_ONE), ("64 organisations", seed.THE_MANY)):
                run = await in_process.measure(
                    lifecycle, [where], run=f"f{number}", clients=CLIENTS, seconds=SECONDS_ALONE, groups=groups,
                    database_seconds=server.cpu_seconds,
                )  # fmt: skip
                if number >= 0:
                    report.add(f"f {name}, in process", run)
