"""A worker's Python, sampled: the ASGI application called in process by 64 clients, without sockets.

    python -m bench.sampling <seconds>     settings in the environment, callers as JSON on standard input

A timer of CPU time interrupts; who runs then is counted. Time in C is the caller's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import msgspec
import uvloop

from bench import contract
from counterfoil import telemetry
from counterfoil.http.app import create_app
from counterfoil.settings import load_settings

CLIENTS = 64
TICK_SECONDS = 0.001
_REFERENCE_LENGTH = 24

App = Callable[[Any, Any, Any], Awaitable[None]]


class Profile(msgspec.Struct):
    """Samples by the function that ran, by the innermost one of ours, and by each one of ours on the stack."""

    requests: int
    seconds: float
    cpu_seconds: float
    samples: int
    ran: dict[str, int]
    ours: dict[str, int]
    inclusive: dict[str, int]


class Sampler:
    """Counts who uses the CPU."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.ours: Counter[str] = Counter()
        self.inclusive: Counter[str] = Counter()
        self.samples = 0

    def __call__(self, _signal: int, frame: FrameType | None) -> None:
        """One tick."""
        self.samples += 1
        stack: list[str] = []
        while frame is not None:
            stack.append(_name(frame))
            frame = frame.f_back
        ours = [name for name in stack if name.startswith("counterfoil/")]
        self.ran.update(stack[:1])
        self.ours.update(ours[:1] or ["outside of Counterfoil (event loop, driver, this bench)"])
        self.inclusive.update(set(ours))

    def start(self) -> None:
        """From now on."""
        signal.signal(signal.SIGPROF, self)
        signal.setitimer(signal.ITIMER_PROF, TICK_SECONDS, TICK_SECONDS)

    @staticmethod
    def stop() -> None:
        """Until now."""
        signal.setitimer(signal.ITIMER_PROF, 0)


def _name(frame: FrameType) -> str:
    path = frame.f_code.co_filename
    for root in ("/site-packages/", "/src/", "/lib/python3"):
        if root in path:
            path = path.split(root, 1)[1]
            break
    return f"{path}:{frame.f_code.co_qualname if sys.version_info >= (3, 11) else frame.f_code.co_name}"


def _scope(call: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, body = call.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, path, _ = first.decode().split(" ")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "headers": headers,
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    return scope, body


async def _call(app: App, call: bytes) -> bytes:
    scope, body = _scope(call)
    parts: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            parts.append(message["body"])
        elif message["status"] != 200:
            parts.append(b"status %d: " % message["status"])

    await app(scope, receive, send)
    answer = b"".join(parts)
    if answer.startswith(b"status"):
        raise AssertionError(answer[:300])
    return answer


async def _lifecycles(app: App, callers: list[contract.Caller], seconds: float, run: str) -> int:
    deadline = time.perf_counter() + seconds

    async def client(number: int) -> int:
        caller = callers[number % len(callers)]
        create, (head, tail) = contract.create_call(caller, _REFERENCE_LENGTH), contract.approve_call(caller)
        count = 0
        while time.perf_counter() < deadline:
            reference = f"{run}-{number}-{count}".encode().ljust(_REFERENCE_LENGTH, b".")
            body = await _call(app, create.fill((number * 70 + count) % caller.members, reference))
            start = body.index(b'"requestId":"') + 13
            await _call(app, head + body[start : start + 36] + tail)
            count += 1
        return count

    return sum(await asyncio.gather(*(client(number) for number in range(CLIENTS))))


async def sample(callers: list[contract.Caller], seconds: float) -> Profile:
    """Profile create and approve for some seconds."""
    app: Any = create_app(load_settings(os.environ))
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    started = asyncio.Event()

    async def told(_message: dict[str, Any]) -> None:
        started.set()

    lifespan = asyncio.create_task(app({"type": "lifespan"}, inbox.get, told))
    await inbox.put({"type": "lifespan.startup"})
    await started.wait()
    await _lifecycles(app, callers, 1.0, f"w{os.getpid()}")
    sampler = Sampler()
    cpu, started_at = time.process_time(), time.perf_counter()
    sampler.start()
    count = await _lifecycles(app, callers, seconds, f"r{os.getpid()}")
    sampler.stop()
    passed, cpu = time.perf_counter() - started_at, time.process_time() - cpu
    await inbox.put({"type": "lifespan.shutdown"})
    await lifespan
    return Profile(count, passed, cpu, sampler.samples, dict(sampler.ran), dict(sampler.ours), dict(sampler.inclusive))


def main() -> None:
    """Print the profile as JSON."""
    telemetry.configure_logs("info")
    callers = msgspec.json.decode(sys.stdin.buffer.read(), type=list[contract.Caller])
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(sample(callers, float(sys.argv[1])))))


if __name__ == "__main__":
    main()
