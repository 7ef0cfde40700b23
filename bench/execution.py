"""(i) Executing on an external host: beside a bare client loop, beside a dead host, and a fresh request among many."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp
import asyncpg
import uvloop

from bench import contract, seed, servers
from bench.figures import AT_LEAST, AT_MOST, Report, Run, percentile
from bench.outside import HEADER, Approved, Calls, Sandbox, dead_host, prepare, sandbox
from bench.scratch import Scratch, machine_seconds
from counterfoil.application.group_commit import Limits
from counterfoil.application.keys import KeysInUse
from counterfoil.application.organisations import Organisations
from counterfoil.cli.executors import spare_the_collector
from counterfoil.executor.engine import Bounds, open_executor
from counterfoil.settings import Settings
from counterfoil.storage import attempts, database

CLIENTS = 64
ROUNDS = 4
CALLS = 1500
DEAD_WAITING = 1000
CLAIM_ROUNDS = 2
FRESH_CLAIMS = 150
FRESH_CALLS = 10
ONE = seed.Organisations(seed.THE_ONE.first, 1, 1)
USUAL_THRESHOLD = gc.get_threshold()
PATH = "/v1.1/points/redeem?skip_validation=true&format=json"


class Backlog(NamedTuple):
    """So many requests wait in so many organisations."""

    waiting: int
    organisations: int

    @property
    def text(self) -> str:
        """For names of rounds."""
        return f"{self.waiting:,} of {self.organisations:,} wait" if self.waiting else "nothing else waits"


NONE, MANY, VERY_MANY = Backlog(0, 0), Backlog(10_000, 200), Backlog(100_000, 1000)


@dataclass(frozen=True, slots=True)
class Place:
    """Where it happens: one database, its executor's settings, and the host."""

    scratch: Scratch
    url: str
    keys: KeysInUse
    host: Sandbox

    @asynccontextmanager
    async def approved(self, run: str) -> AsyncIterator[Approved]:
        """What puts requests in; the run is part of their references."""
        connection = await asyncpg.connect(self.url)
        try:
            yield Approved(connection, self.keys, run)
        finally:
            await connection.close()

    @asynccontextmanager
    async def executor(self, calls: Calls) -> AsyncIterator[None]:
        """An executor as a process of the product has it, but that it leaves hanging calls behind at the end."""
        settings = Settings()
        limits = Limits(settings.queue_max, settings.batch_max, settings.lock_timeout_ms)
        bounds = Bounds(calls_max=settings.calls_max, lease_seconds=settings.lease_seconds, drain_seconds=0.2)
        pool = await database.open_pool(self.url, size=settings.pool_size, statement_cache=settings.statement_cache)
        try:
            async with open_executor(
                pool, Organisations(pool), self.keys, limits, calls, bounds=bounds, owner=f"bench-{time.time_ns()}"
            ):
                yield
        finally:
            await pool.close()


def execution(server: Scratch, report: Report) -> None:
    """(i) All three; 10 k waiting requests of 200 organisations."""
    spare_the_collector()  # as a process of the product, for both
    try:
        uvloop.run(_execution(server, report))
        _claims(server, report, MANY)
    finally:
        gc.unfreeze()
        gc.set_threshold(*USUAL_THRESHOLD)


def among_very_many(server: Scratch, report: Report) -> None:
    """(i) A fresh request among 100 k of 1000 organisations."""
    _claims(server, report, VERY_MANY)


def _keys(server: Scratch, url: str) -> KeysInUse:
    return KeysInUse(servers.product_settings(server, url).keys_path, print)


def _rate(count: int, times: list[float], groups: float, before: list[float], after: list[float]) -> Run:
    """The run of `count` calls; before and after: time, this process, database, host, machine."""
    passed, cpu, database_cpu, host_cpu, machine = (b - a for a, b in zip(before, after, strict=True))
    return Run(
        rate=count / passed,
        p50_us=percentile(sorted(times), 0.5) * 1e6,
        p99_us=percentile(sorted(times), 0.99) * 1e6,
        server_cpu_us=cpu / count * 1e6,
        database_cpu_us=database_cpu / count * 1e6,
        group=groups,
        load_cpu_us=host_cpu / count * 1e6,
        count=count,
        others=max(0.0, machine - cpu - database_cpu - host_cpu) / passed,
    )


def _clocks(place: Place) -> list[float]:
    return [
        time.perf_counter(), time.process_time(), place.scratch.cpu_seconds(), place.host.cpu_seconds(),
        machine_seconds(),
    ]  # fmt: skip


async def _execution(server: Scratch, report: Report) -> None:
    print(f"\n(i) {CALLS} calls to the sandbox, {CLIENTS} at once; p50 and p99 are the call's, load is the sandbox")
    with ExitStack() as stack:
        host, dead = stack.enter_context(sandbox()), stack.enter_context(dead_host())
        url = await server.create("execution")
        await prepare(url, ONE, host.url, dead)
        place = Place(server, url, _keys(server, url), host)
        async with place.approved("one") as approved:
            for number in range(-1, ROUNDS):  # the first round warms up
                runs = {"i bare client loop": await _bare(place, number)}
                for beside_dead in (False, True) if number % 2 else (True, False):  # vacuum comes at its own times
                    name = "i executing beside a dead host" if beside_dead else "i executing"
                    runs[name] = await _executing(place, approved, beside_dead=beside_dead)
                if number < 0:
                    await seed.analyze(url)
                    continue
                for name, run in runs.items():
                    report.add(name, run)
            report.notes += [f"(i) {each}" for each in await approved.wrong(host)]
        await server.drop("execution")
    report.print_runs([name for name in report.rounds if name.startswith("i ")])
    report.target(
        "(i) calls/s executing, x a bare client loop", report.ratio("i executing", "i bare client loop"), AT_LEAST, 0.5
    )
    ratio = report.ratio("i executing beside a dead host", "i executing")
    report.target("(i) calls/s beside a dead host, x without one", ratio, AT_LEAST, 0.9)


async def _bare(place: Place, number: int) -> Run:
    """The same calls with the same library, and nothing else."""
    times: list[float] = []
    text = json.dumps(contract.payload("")["body"], separators=(",", ":"))
    bodies = [
        text.replace("MOBILE", f"91{contract.MOBILE_FIRST + n}").replace("REFERENCE", f"b-{number}-{n}").encode()
        for n in range(CALLS)
    ]
    headers = {
        HEADER: contract.Caller(ONE.first, 1).authorization,
        "content-type": "application/json",
        "X-CAP-CLIENT-SIGNATURE": "jatin",
    }
    waiting = iter(bodies)

    async def client(session: aiohttp.ClientSession) -> None:
        for body in waiting:
            started_at = time.perf_counter()
            async with session.post(place.host.url + PATH, data=body, headers=headers) as response:
                answer = await response.read()
            if response.status != 200 or b'"code":800' not in answer:
                raise AssertionError(f"not redeemed: {answer[:300]!r}")
            times.append(time.perf_counter() - started_at)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        before = _clocks(place)
        await asyncio.gather(*(client(session) for _ in range(CLIENTS)))
        after = _clocks(place)
    return _rate(CALLS, times, 0.0, before, after)


async def _executing(place: Place, approved: Approved, *, beside_dead: bool) -> Run:
    """From the start of an executor until all that waits for the live host is settled."""
    await approved.add([ONE.first] * DEAD_WAITING, host_id="dead")
    if not beside_dead:  # the same rows, and nobody waits
        await approved.give_up("dead")
    await approved.add([ONE.first] * CALLS)
    calls, called = Calls(), asyncio.Event()

    def ended(_host_id: str, _seconds: float) -> None:
        if len(calls.times["h1"]) >= CALLS:
            called.set()

    calls.ended = ended
    before = _clocks(place)
    async with place.executor(calls):
        await called.wait()
        while await approved.waiting("h1"):  # noqa: ASYNC110 - the last answers are being settled
            await asyncio.sleep(0.005)
        after = _clocks(place)
    await approved.give_up("dead")
    if calls.troubles:
        raise AssertionError(f"the run is worth nothing: {calls.troubles[:3]}")
    return _rate(CALLS, calls.times["h1"], calls.commands / calls.batches, before, after)


def _claims(server: Scratch, report: Report, backlog: Backlog) -> None:
    """Rounds with and without a backlog take turns, each on a database of its own."""
    print(f"\n(i) a fresh request while {backlog.text}; p50 of its claim, and from its approval to its call")
    with ExitStack() as stack:
        host, dead = stack.enter_context(sandbox()), stack.enter_context(dead_host())
        uvloop.run(_compare_claims(server, report, backlog, host, dead))
    names = {each.text: f"i {{}}, {each.text}" for each in (NONE, backlog)}
    report.print_runs([name.format(what) for what in ("poll", "claim", "call") for name in names.values()])
    for what, said in (("claim", "p50 of a claim"), ("call", "p50 from approval to call")):
        ratio = report.ratio(names[backlog.text].format(what), names[NONE.text].format(what), "p50_us")
        report.target(f"(i) {said}, {backlog.text}, x none", ratio, AT_MOST, 1.5)


async def _compare_claims(server: Scratch, report: Report, backlog: Backlog, host: Sandbox, dead: str) -> None:
    where = seed.Organisations(seed.THE_MANY.first, backlog.organisations + 1, 1)
    fresh, others = where.first, where.ids[1:]
    places: dict[Backlog, Place] = {}
    for each in (NONE, backlog):
        url = await server.create(f"waiting_{each.waiting}")
        await prepare(url, where, host.url, dead)
        places[each] = Place(server, url, _keys(server, url), host)
    for number in range(-1, CLAIM_ROUNDS):
        for each, place in places.items():
            async with place.approved(f"{each.waiting}.{number}") as approved:
                missing = backlog.waiting - await approved.waiting("h1")
                if each is NONE and number >= 0:
                    missing = 0
                await approved.add([others[n % len(others)] for n in range(missing)])
                if each is NONE:  # the same rows, and nobody waits
                    await approved.give_up("h1")
                if number < 0:
                    await seed.analyze(place.url)
                runs = await _claim(place, approved, fresh)
                runs["call"] = await _call(place, approved, fresh, 4 * each.organisations)
                for what, run in runs.items():
                    if number >= 0:
                        report.add(f"i {what}, {each.text}", run)
    for each in places:
        await server.drop(f"waiting_{each.waiting}")


async def _claim(place: Place, approved: Approved, fresh: int) -> dict[str, Run]:
    """What an executor asks the database: twice in a second who has work, and then for a claim."""
    times: dict[str, list[float]] = {"poll": [], "claim": []}
    pool = await database.open_pool(place.url, size=1)
    before = _clocks(place)
    async with pool.acquire() as connection:
        for _ in range(FRESH_CLAIMS):
            await approved.add([fresh], host_id="h2")
            asked_at = time.perf_counter()
            found = await attempts.organisations_with_work(connection)
            found_at = time.perf_counter()
            free = {"h1": CLIENTS, "h2": CLIENTS}
            async with database.in_transaction(connection, lock_timeout_ms=2000):
                claims = await attempts.claim(connection, fresh, "bench", free, slots=CLIENTS, lease_seconds=30)
            times["claim"].append(time.perf_counter() - found_at)
            times["poll"].append(found_at - asked_at)
            if fresh not in found or len(claims) != 1:
                raise AssertionError(f"{len(claims)} claims (this is a bug)")
    after = _clocks(place)
    await pool.close()
    await approved.give_up("h2")
    return {what: _rate(FRESH_CLAIMS, each, 0.0, before, after) for what, each in times.items()}


async def _call(place: Place, approved: Approved, fresh: int, served_first: int) -> Run:
    """An executor works off what waits; now and then another process commits an approval and does not claim it."""
    times: list[float] = []
    calls, called = Calls(), asyncio.Queue[float]()
    calls.ended = lambda host_id, seconds: called.put_nowait(time.perf_counter() - seconds) if host_id == "h2" else None
    before = _clocks(place)
    async with place.executor(calls):
        while len(calls.times["h1"]) < served_first:  # noqa: ASYNC110 - it has just started: its first round
            await asyncio.sleep(0.05)
        for _ in range(FRESH_CALLS):
            await asyncio.sleep(random.uniform(0.1, 0.6))  # noqa: S311 - not in step with the executor
            await approved.add([fresh], host_id="h2")
            committed_at = time.perf_counter()
            times.append(max(0.0, await called.get() - committed_at))
        after = _clocks(place)
    if calls.troubles:
        raise AssertionError(f"the run is worth nothing: {calls.troubles[:3]}")
    return _rate(len(times), times, 0.0, before, after)
