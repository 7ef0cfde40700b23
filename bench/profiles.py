"""What dominates: the parts of one batch, the statements' plans with times, the Python of a worker sampled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from statistics import median
from typing import Any

import msgspec
import uvloop

from bench import in_process, sampling, seed, servers
from bench.figures import Report
from bench.scratch import Scratch
from counterfoil.application import requests as verbs
from counterfoil.domain.organisations import Organisation
from counterfoil.settings import as_environment
from counterfoil.storage import database, organisations

BATCHES = 40
SECONDS = 8.0
TOP = 20


class Timed:
    """A connection that notes how long each of its statements takes, with the way to the server and back."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.times: list[float] = []

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        """As the connection's."""
        return await self._timed(self._connection.fetch, statement, arguments)

    async def execute(self, statement: str, *arguments: Any) -> Any:
        """As the connection's."""
        return await self._timed(self._connection.execute, statement, arguments)

    async def _timed(
        self, run: Callable[..., Coroutine[Any, Any, Any]], statement: str, arguments: tuple[Any, ...]
    ) -> Any:
        started_at = time.perf_counter()
        answer = await run(statement, *arguments)
        self.times.append(time.perf_counter() - started_at)
        return answer


def profile(server: Scratch, report: Report) -> None:
    """Print all three."""
    url = uvloop.run(_seeded(server))
    uvloop.run(_batches(url))
    uvloop.run(_plans(url))
    _sample(server, url)
    report.notes += [f"(profile) {each}" for each in uvloop.run(seed.broken_rules(url))]
    uvloop.run(server.drop("profile"))


async def _seeded(server: Scratch) -> str:
    url = await server.create("profile")
    await seed.seed(url, seed.THE_ONE)
    return url


async def _run_batch(
    pool: database.Pool, organisation: Organisation, size: int, run: str
) -> dict[str, dict[str, float]]:
    """Submit and approve `size` requests; milliseconds by part."""
    maker = in_process.actor_of(organisation, seed.MAKER)
    checker = in_process.actor_of(organisation, seed.CHECKER)
    commands = [in_process.submit_command(organisation, maker, n * 7, f"{run}-{n}") for n in range(size)]
    decisions = [in_process.decide_command(checker, each.request_id) for each in commands]
    found: dict[str, dict[str, float]] = {}
    verb: Any
    for name, verb, given in (
        ("submit", verbs.submit_requests, commands),
        ("approve", verbs.decide_requests, decisions),
    ):
        started_at = time.perf_counter()
        async with database.transaction(pool, lock_timeout_ms=2000) as tx:
            timed = Timed(tx)
            begun_at = time.perf_counter()
            await verb(timed, organisation, given)
            done_at = time.perf_counter()
        ended_at = time.perf_counter()
        lock, write = sum(timed.times[:-1]), timed.times[-1]
        found[name] = {
            "begin": begun_at - started_at,
            "lock and read": lock,
            "decide in Python": done_at - begun_at - lock - write,
            "write": write,
            "commit": ended_at - done_at,
            "all": ended_at - started_at,
        }
    return found


async def _batches(url: str) -> None:
    print("\none batch, part by part, one connection, milliseconds (medians), and µs per request")
    pool = await database.open_pool(url, size=1)
    organisation = await _organisation(pool)
    for n in range(BATCHES):
        await _run_batch(pool, organisation, 64, f"warm.{n}")
    await seed.analyze(url)
    for size in (1, 16, 64):
        runs = [await _run_batch(pool, organisation, size, f"p{size}.{n}") for n in range(BATCHES)]
        for verb in ("submit", "approve"):
            parts = {part: median(run[verb][part] for run in runs[10:]) for part in runs[0][verb]}
            said = "  ".join(f"{part} {seconds * 1e3:.2f}" for part, seconds in parts.items())
            print(f"  {verb:8}{size:3}: {said}  = {parts['all'] / size * 1e6:.0f} µs each", flush=True)
    await pool.close()


async def _organisation(pool: database.Pool) -> Organisation:
    async with pool.acquire() as connection:
        found = await organisations.find_organisation(connection, seed.THE_ONE.first)
    if found is None:
        raise TypeError("the organisation is seeded (this is a bug)")
    return found


async def _plans(url: str) -> None:
    """EXPLAIN (ANALYZE) of each statement of a batch of 64, each taken back and then run."""
    pool = await database.open_pool(url, size=1)
    organisation = await _organisation(pool)
    maker = in_process.actor_of(organisation, seed.MAKER)
    checker = in_process.actor_of(organisation, seed.CHECKER)
    commands = [in_process.submit_command(organisation, maker, n * 7, f"plan-{n}") for n in range(64)]
    decisions = [in_process.decide_command(checker, each.request_id) for each in commands]
    plans: list[Mapping[str, Any]] = []
    for verb, given in ((verbs.submit_requests, commands), (verbs.decide_requests, decisions)):
        async with database.transaction(pool, lock_timeout_ms=2000) as tx:
            recording: Any = _Recording(tx, plans)
            run: Any = verb
            await run(recording, organisation, given)
    await pool.close()
    names = ("submit: lock and read", "submit: write", "approve: lock and read", "approve: write")
    for name, plan in zip(names, plans, strict=True):
        planning, execution = plan["Planning Time"], plan["Execution Time"]
        print(f"\n{name}, 64 commands: planning {planning:.2f} ms, execution {execution:.2f} ms")
        for label, milliseconds in sorted(_nodes(plan).items(), key=lambda each: -each[1])[:9]:
            print(f"  {milliseconds:8.2f} ms  {label}")


class _Recording(Timed):
    """Explains each statement, takes that back, then runs it."""

    def __init__(self, connection: Any, plans: list[Mapping[str, Any]]) -> None:
        super().__init__(connection)
        self.plans = plans

    async def _timed(
        self, run: Callable[..., Coroutine[Any, Any, Any]], statement: str, arguments: tuple[Any, ...]
    ) -> Any:
        await self._connection.execute("SAVEPOINT before")
        rows = await self._connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments)
        self.plans.append(json.loads(rows[0][0])[0])
        await self._connection.execute("ROLLBACK TO before")
        return await run(statement, *arguments)


def _nodes(plan: Mapping[str, Any]) -> dict[str, float]:
    """Each node's own milliseconds, and the triggers'."""
    found: dict[str, float] = {}

    def walk(node: Mapping[str, Any]) -> float:
        total = float(node["Actual Total Time"]) * int(node["Actual Loops"])
        # A CTE is counted where it stands; whoever scans it has its time as well.
        below = sum(walk(each) for each in node.get("Plans", ()))
        label = " ".join(
            str(node[key])
            for key in ("Operation", "Node Type", "Relation Name", "Index Name", "CTE Name", "Subplan Name")
            if key in node
        )
        if node["Node Type"] != "CTE Scan":
            found[label] = found.get(label, 0.0) + max(0.0, total - below)
        return total

    walk(plan["Plan"])
    for trigger in plan.get("Triggers", ()):
        found[f"trigger {trigger['Trigger Name']} ({trigger['Calls']} calls)"] = float(trigger["Time"])
    return found


def _sample(server: Scratch, url: str) -> None:
    callers = seed.THE_ONE.callers()
    with servers.serve(server, url, workers=1) as ours:
        ours.sign_in(callers)
    settings = servers.product_settings(server, url)
    metrics = server.folder / "metrics"
    metrics.mkdir(exist_ok=True)
    with (server.folder / "sampling.log").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-m", "bench.sampling", str(SECONDS)],
            input=msgspec.json.encode(callers),
            env={**os.environ, **as_environment(settings), "PROMETHEUS_MULTIPROC_DIR": str(metrics)},
            stdout=subprocess.PIPE,
            stderr=log,
            check=True,
        )
    found = msgspec.json.decode(done.stdout, type=sampling.Profile)
    each = found.cpu_seconds / found.requests * 1e6
    print(
        f"\na worker's Python under 64 clients, without sockets: {found.requests / found.seconds:.0f} lifecycles/s, "
        f"{each:.0f} µs CPU each, {found.samples} samples"
    )
    for title, counts in (
        ("by our innermost function, with the libraries below it", found.ours),
        ("by the function that ran (C code counts for its caller)", found.ran),
        ("by each of our functions, with all below it", found.inclusive),
    ):
        print(f"  {title}")
        for name, count in sorted(counts.items(), key=lambda pair: -pair[1])[:TOP]:
            print(f"    {count / found.samples:6.1%} {count / found.samples * each:7.1f} µs  {name}")
