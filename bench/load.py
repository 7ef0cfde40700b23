"""The load generator: a process of its own, lean, because it shares the cores with what it measures.

    python -m bench.load        one job per line of standard input, one outcome per line of standard output

Raw sockets with keep-alive, bytes prepared in advance, and of each answer only the status, the length and what
the next call needs. Every status is checked; of a decision also that it was executed.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import cast

import msgspec
import uvloop

from bench import contract
from bench.contract import Caller
from bench.figures import percentile

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = b'"requestId":"'
_ID_LENGTH = 36
_PENDING, _EXECUTED = b'"state":"AdminTask"', b'"state":"approved"'
_REFERENCE_LENGTH = 24
_LATE_SECONDS_MAX = 30
_PATIENCE_SECONDS = 0.2

# A script yields the number of a step and the bytes to send, and is sent the body of the answer.
Script = Generator[tuple[int, bytes], bytes, None]


class Job(msgspec.Struct, kw_only=True):
    """What to send, from how many connections and for how long."""

    port: int
    script: str
    seconds: float
    connections: int
    callers: list[Caller]
    run: str  # makes references unique
    paths: list[str] = []
    patient: bool = False  # after "busy" send the same call again


class Outcome(msgspec.Struct, kw_only=True):
    """What came back. `count` is of whole scripts: requests, or lifecycles."""

    count: int
    seconds: float
    cpu_seconds: float
    errors: int
    first_error: str
    p50_us: list[float]  # of each step
    p99_us: list[float]


class WrongAnswer(Exception):
    """An answer that the script did not expect; the run has failed."""


def _creates(job: Job, number: int, *, approve: bool, check: bool) -> Script:
    caller = job.callers[number % len(job.callers)]
    create = contract.create_call(caller, _REFERENCE_LENGTH)
    head, tail = contract.approve_call(caller)
    # Connections walk through the members at different places, so that they seldom meet.
    member = number * max(1, caller.members // job.connections)
    for count in range(sys.maxsize):
        reference = f"{job.run}-{number}-{count}".encode().ljust(_REFERENCE_LENGTH, b".")
        body = yield 0, create.fill((member + count) % caller.members, reference)
        if check and _PENDING not in body:
            raise WrongAnswer(f"not pending: {body[:300]!r}")
        if approve:
            start = body.find(_ID) + len(_ID)
            body = yield 1, head + body[start : start + _ID_LENGTH] + tail
            if _EXECUTED not in body:
                raise WrongAnswer(f"not executed: {body[:300]!r}")


def _gets(job: Job, number: int) -> Script:
    caller = job.callers[number % len(job.callers)]
    calls = [contract.get_call(caller, path) for path in job.paths]
    for count in range(sys.maxsize):
        body = yield 0, calls[(number * 7 + count) % len(calls)]
        if b'"data":' not in body:
            raise WrongAnswer(f"no data: {body[:300]!r}")


SCRIPTS: dict[str, Callable[[Job, int], Script]] = {
    "create": lambda job, number: _creates(job, number, approve=False, check=True),
    "lifecycle": lambda job, number: _creates(job, number, approve=True, check=True),
    "yardstick": lambda job, number: _creates(job, number, approve=False, check=False),
    "get": _gets,
}


class Connection(asyncio.Protocol):
    """One client: sends the next call when the answer to the last one is complete."""

    def __init__(self, script: Script, deadline: float, *, patient: bool) -> None:
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.times: tuple[list[float], list[float]] = ([], [])
        self.count = 0
        self.error = ""
        self._script = script
        self._deadline = deadline
        self._patient = patient
        self._buffer = b""
        self._missing = 0
        self._step = 0
        self._sent_at = 0.0
        self._call = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is none of asyncio's
        self._send(*next(self._script))

    def _send(self, step: int, call: bytes) -> None:
        self._step, self._call = step, call
        if self._transport is not None:
            self._sent_at = time.perf_counter()
            self._transport.write(call)

    def data_received(self, data: bytes) -> None:
        """Wait for the whole answer, then go on."""
        self._buffer = data if not self._buffer else self._buffer + data
        if len(self._buffer) < self._missing:
            return
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head_end + 2)
        self._missing = head_end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < self._missing:
            return
        now = time.perf_counter()
        self.times[self._step].append(now - self._sent_at)
        answer, self._buffer, self._missing = self._buffer, b"", 0
        if self._patient and answer[9:12] in (b"429", b"503"):
            asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._send, self._step, self._call)
            return
        if answer[9:12] != b"200":
            self._finish(f"{answer[:12]!r} {answer[head_end + 4 :][:300]!r}")
            return
        try:
            step, call = self._script.send(answer[head_end + 4 :])
        except WrongAnswer as error:
            self._finish(str(error))
            return
        if step == 0:
            self.count += 1
            if now >= self._deadline:
                self._finish("")
                return
        self._send(step, call)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed it: nobody expects that."""
        self._finish(f"connection lost: {exc}")

    def _finish(self, error: str) -> None:
        if not self.finished.done():
            self.error = error
            self.finished.set_result(None)
            if self._transport is not None:
                self._transport.close()


async def run(job: Job) -> Outcome:
    """Run one job to its end: what was in flight at the deadline is waited for."""
    loop = asyncio.get_running_loop()
    cpu, started_at = time.process_time(), time.perf_counter()
    deadline = started_at + job.seconds
    make = SCRIPTS[job.script]
    clients: list[Connection] = []
    for number in range(job.connections):
        connection = partial(Connection, make(job, number), deadline, patient=job.patient)
        clients.append((await loop.create_connection(connection, "127.0.0.1", job.port))[1])
    async with asyncio.timeout(job.seconds + _LATE_SECONDS_MAX):
        await asyncio.gather(*(client.finished for client in clients))
    seconds, cpu = time.perf_counter() - started_at, time.process_time() - cpu
    errors = [client.error for client in clients if client.error]
    steps = [_sorted(client.times[step] for client in clients) for step in (0, 1)]
    return Outcome(
        count=sum(client.count for client in clients),
        seconds=seconds,
        cpu_seconds=cpu,
        errors=len(errors),
        first_error=errors[0] if errors else "",
        p50_us=[percentile(times, 0.5) * 1e6 for times in steps],
        p99_us=[percentile(times, 0.99) * 1e6 for times in steps],
    )


def _sorted(parts: Generator[Sequence[float], None, None]) -> list[float]:
    return sorted(time for part in parts for time in part)


def main() -> None:
    """Jobs until the input ends."""
    decode = msgspec.json.Decoder(Job).decode
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run(decode(line)))) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
