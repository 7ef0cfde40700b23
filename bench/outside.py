"""What an executor needs around it: the sandbox, a host that answers nobody, approved requests that wait."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from uuid import UUID

import asyncpg
import msgspec

from bench import contract, seed
from bench.in_process import Groups
from bench.scratch import process_seconds
from counterfoil.application import ids
from counterfoil.application.keys import KeysInUse

HEADER = "Authorization"
_POINTS = 10**12
_pack = msgspec.msgpack.encode


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running `counterfoil sandbox`."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """What it has used so far."""
        return process_seconds(self.pid)

    def effects(self) -> list[str]:
        """The references of all that took effect."""
        connection = HTTPConnection("127.0.0.1", int(self.url.rpartition(":")[2]), timeout=30)
        try:
            connection.request("GET", "/sandbox/effects")
            return [each["reference"] for each in json.loads(connection.getresponse().read())["data"]]
        finally:
            connection.close()


@contextmanager
def sandbox() -> Iterator[Sandbox]:
    """The sandbox as anybody starts it, in a process of its own."""
    command = [sys.executable, "-m", "counterfoil", "sandbox", "--port", "0", "--points", str(_POINTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        try:
            said = process.stdout.readline().decode() if process.stdout else ""
            found = re.search(r"http://[0-9.:]+", said)
            if found is None:
                raise AssertionError(f"the sandbox does not start: {said}")
            yield Sandbox(found[0], process.pid)
        finally:
            process.terminate()


@contextmanager
def dead_host() -> Iterator[str]:
    """The address of a host to which nobody gets through: it accepts nothing, and its queue is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        caller = stack.enter_context(socket.socket())
        caller.connect(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def prepare(url: str, where: seed.Organisations, host: str, dead: str) -> None:
    """Organisations that execute on the host."""
    await seed.seed(url, where)
    connection = await asyncpg.connect(url)
    try:
        await seed.run(connection, "external", first=where.first, last=where.ids[-1], url=host, dead=dead)
    finally:
        await connection.close()


@dataclass(slots=True)
class Approved:
    """Puts approved requests into the database as if other processes had decided them."""

    connection: asyncpg.Connection[asyncpg.Record]
    keys: KeysInUse
    run: str
    count: int = 0
    references: set[str] = field(default_factory=set)

    async def add(self, org_ids: Sequence[int], *, host_id: str = "h1") -> None:
        """One request of each of these organisations, each named as often as it is to have one; one transaction."""
        request_ids = [ids.uuid7() for _ in org_ids]
        first, self.count = self.count, self.count + len(org_ids)
        references = [f"i-{self.run}-{number}" for number in range(first, self.count)]
        mobiles = [f"91{contract.MOBILE_FIRST + number % 100_000}" for number in range(first, self.count)]
        sealed = [self._sealed(*each) for each in zip(org_ids, request_ids, strict=True)]
        approved, approvals = seed.statement("approved"), seed.statement("approvals")
        async with self.connection.transaction():
            await self.connection.execute(
                approved, org_ids, request_ids, mobiles, references, sealed, host_id, contract.stored_payload()
            )
            await self.connection.execute(approvals, org_ids, request_ids)
        if host_id == "h1":
            self.references.update(references)

    def _sealed(self, org_id: int, request_id: UUID) -> bytes:
        value = contract.Caller(org_id, 1).authorization
        return _pack({HEADER: self.keys.now().seal(org_id, request_id, HEADER, value, now=time.time())})

    async def waiting(self, host_id: str) -> int:
        """How many of a host are not at their end."""
        return int(
            await self.connection.fetchval(
                "SELECT count(*) FROM request WHERE host_id = $1 AND due_at IS NOT NULL", host_id
            )
        )

    async def give_up(self, host_id: str) -> None:
        """Nobody waits for this host any more."""
        await self.connection.execute("UPDATE request SET due_at = NULL WHERE host_id = $1", host_id)

    async def wrong(self, host: Sandbox) -> list[str]:
        """What does not hold: each request has succeeded by one call, and has taken effect once."""
        times = Counter(each for each in host.effects() if each.startswith("i-"))
        wrong = await self.connection.fetchval(
            "SELECT count(*) FROM request r WHERE r.host_id = 'h1' AND (r.state <> 'succeeded' OR 1 <> ("
            "SELECT count(*) FROM attempt a WHERE a.org_id = r.org_id AND a.request_id = r.request_id))"
        )
        found = [f"{wrong} x a request without one call that has succeeded"] * bool(wrong)
        if set(times) != self.references or max(times.values(), default=1) > 1:
            found.append("the host's effects are not the requests' that have succeeded")
        return found


@dataclass(slots=True)
class Calls(Groups):
    """Notes the calls of an executor, as its metrics do."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    outcomes: Counter[str] = field(default_factory=Counter)
    ended: Callable[[str, float], None] = lambda _host_id, _seconds: None

    def attempted(self, _org_id: int, host_id: str, outcome: str, seconds: float) -> None:
        """A call has ended."""
        self.times[host_id].append(seconds)
        self.outcomes[f"{host_id} {outcome}"] += 1
        self.ended(host_id, seconds)

    def breaker(self, _org_id: int, host_id: str, *, is_open: bool) -> None:
        """Not looked at."""

    def paused(self, reason: str | None) -> None:
        """Nothing would be executed."""
        if reason is not None:
            self.troubles.append(reason)
