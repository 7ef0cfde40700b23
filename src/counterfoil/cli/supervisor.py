"""Keeps the worker processes of `serve` running, and ends them.

Each worker is a new interpreter with a listening socket of its own. A worker that dies is replaced; one that cannot
even start ends the service, because it would not start the next time either.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from counterfoil import telemetry
from counterfoil.cli import worker
from counterfoil.settings import Settings, as_environment

START_SECONDS_MAX = 60
SPARE_SECONDS = 5
STABLE_SECONDS = 10.0
PAUSE_SECONDS_MAX = 5.0


class CannotServe(Exception):
    """No worker could be started; its own log line above says why."""


class Supervisor:
    """The workers, one for each listening socket."""

    def __init__(self, settings: Settings, listening: Sequence[socket.socket], *, embedded: bool) -> None:
        self._settings = settings
        self._listening = listening
        self._environment = {**os.environ, **as_environment(settings)}
        if embedded:
            self._environment[worker.EMBEDDED] = "1"
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT; raises CannotServe. A second SIGINT does not wait for anybody."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        slots = range(len(self._listening))
        try:
            ready = await asyncio.gather(*(self._start(slot) for slot in slots))
            if not all(ready) and not self._stopping.is_set():
                raise CannotServe("a worker could not start")
            if not self._stopping.is_set():
                on_ready()
            keepers = [asyncio.create_task(self._keep(slot)) for slot in slots]
            await self._stopping.wait()
            await asyncio.gather(*keepers)
        finally:
            await self._end_all()
            loop.remove_signal_handler(signal.SIGTERM)
            loop.remove_signal_handler(signal.SIGINT)

    def _stop(self) -> None:
        self._stopping.set()
        # As soon as the workers have closed them too, new connections are refused instead of kept waiting.
        for each in self._listening:
            each.close()
        for process in self._processes.values():
            _signal(process, signal.SIGTERM)

    def _interrupted(self) -> None:
        if self._stopping.is_set():
            for process in self._processes.values():
                _signal(process, signal.SIGKILL)
        self._stop()

    async def _start(self, slot: int) -> bool:
        """Start a worker; whether it serves."""
        if self._stopping.is_set():
            return False
        number = self._listening[slot].fileno()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "counterfoil.cli.worker",
            str(number),
            str(slot),
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[number],
        )
        self._processes[slot] = process
        if self._stopping.is_set():
            _signal(process, signal.SIGTERM)
        if process.stdout is None:
            raise AssertionError("the worker's output is a pipe (this is a bug)")
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                return await process.stdout.readline() == worker.READY
        except TimeoutError:
            telemetry.log().error("worker does not start", slot=slot)
            _signal(process, signal.SIGKILL)
            return False

    async def _keep(self, slot: int) -> None:
        """Replace the worker of this slot whenever it dies, until the service stops."""
        pause = 0.0
        started_at = time.monotonic()
        while True:
            process = self._processes[slot]
            code = await process.wait()
            telemetry.worker_died(process.pid)
            if self._stopping.is_set():
                return
            lived = time.monotonic() - started_at
            pause = 0.0 if lived > STABLE_SECONDS else min(max(pause * 2, 0.1), PAUSE_SECONDS_MAX)
            telemetry.log().error("worker died", slot=slot, exit_code=code, restart_in_seconds=pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            if self._stopping.is_set():
                return
            started_at = time.monotonic()
            await self._start(slot)

    async def _end_all(self) -> None:
        """Nobody is left when this returns."""
        self._stop()
        waiting = [asyncio.create_task(process.wait()) for process in self._processes.values()]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=self._settings.drain_seconds + SPARE_SECONDS)
        if late:
            telemetry.log().error("workers did not drain in time", workers=len(late))
            for process in self._processes.values():
                _signal(process, signal.SIGKILL)
            await asyncio.wait(late)


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
