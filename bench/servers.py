"""Starts what is measured over HTTP, and the load generator beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec

from bench import contract, load, seed
from bench.figures import Run
from bench.scratch import Scratch, machine_seconds, process_seconds
from counterfoil.application.keys import load_or_create_keys
from counterfoil.settings import Settings, as_environment, load_settings

START_SECONDS_MAX = 60
INTRODUCED_AT_ONCE = 8
_GROUPS = re.compile(r"^counterfoil_group_size_(sum|count)\S* ([0-9.e+]+)$", re.MULTILINE)


class LoadFailed(Exception):
    """An answer was not what it should be; the run counts for nothing."""


def product_settings(scratch: Scratch, url: str) -> Settings:
    """The settings that `serve` has when nobody sets anything, but for where things are."""
    settings = replace(
        load_settings({}), host="127.0.0.1", port=free_port(), data_dir=scratch.folder / "keys", database_url=url
    )
    load_or_create_keys(settings.keys_path)
    return settings


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Server:
    """A running service with its worker processes."""

    name: str
    port: int
    processes: Sequence[subprocess.Popen[bytes]]
    log: Path

    def cpu_seconds(self) -> float:
        """What all its processes have used so far."""
        return sum(process_seconds(process.pid) for process in self.processes)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> str:
        """One call, outside of any measurement."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(
                method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != 200:
                raise LoadFailed(f"{method} {path}: {answer.status} {text[:300]}")
            return text
        finally:
            connection.close()

    def groups(self) -> tuple[float, float]:
        """How many commands went to the database so far, and in how many transactions."""
        found = {"sum": 0.0, "count": 0.0}
        for which, value in _GROUPS.findall(self.call("GET", "/metrics")):
            found[which] += float(value)
        return found["sum"], found["count"]

    def sign_in(self, callers: Sequence[contract.Caller]) -> None:
        """Get the tokens of each caller's maker and checker."""
        for caller in callers:
            tokens = []
            for user_name in (seed.MAKER, seed.CHECKER):
                body = {"orgId": caller.org_id, "userName": user_name, "password": seed.PASSWORD}
                tokens.append(json.loads(self.call("POST", "/counterfoil/v1/ui-token", body))["data"]["token"])
            caller.maker_token, caller.checker_token = tokens


@contextmanager
def serve(scratch: Scratch, url: str, **changes: Any) -> Iterator[Server]:
    """`counterfoil serve` on this database."""
    settings = replace(product_settings(scratch, url), **changes)
    log = scratch.folder / f"serve-{settings.port}.log"
    program = shutil.which("counterfoil", path=str(Path(sys.executable).parent))
    if program is None:
        raise LoadFailed("there is no `counterfoil` beside this Python: run `make bench`")
    with _process([program, "serve"], settings, log, ()) as process:
        server = Server("serve", settings.port, [process], log)
        _await_ready(server)
        yield server


@contextmanager
def yardstick(scratch: Scratch, url: str) -> Iterator[Server]:
    """The yardstick, with as many workers as `serve` has."""
    settings = product_settings(scratch, url)
    log = scratch.folder / "yardstick.log"
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(2048)
        listening.setblocking(False)  # noqa: FBT003 - the socket's own signature
        command = [sys.executable, "-m", "bench.yardstick", str(listening.fileno())]
        workers = [
            stack.enter_context(_process(command, settings, log, (listening.fileno(),)))
            for _ in range(settings.workers)
        ]
        for worker in workers:
            if worker.stdout is None or worker.stdout.readline() != b"ready\n":
                raise LoadFailed(f"the yardstick does not start: {log.read_text()[-2000:]}")
        yield Server("yardstick", settings.port, workers, log)


@contextmanager
def _process(
    command: Sequence[str], settings: Settings, log: Path, sockets: Sequence[int]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command,
            env={**os.environ, **as_environment(settings)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=sockets,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(server: Server) -> None:
    give_up_at = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            server.call("GET", "/readyz")
        except (OSError, LoadFailed) as error:
            if time.monotonic() > give_up_at or server.processes[0].poll() is not None:
                raise LoadFailed(f"{server.name} does not start ({error}): {server.log.read_text()[-2000:]}") from None
            time.sleep(0.05)
        else:
            return


class Load:
    """The load generator's process, and the meters that are read before and after each of its jobs."""

    def __init__(self, scratch: Scratch, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._database = scratch
        self._runs = 0

    def _send(self, job: load.Job) -> load.Outcome:
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the load generator has pipes (this is a bug)")
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        self._process.stdin.flush()
        outcome = msgspec.json.decode(self._process.stdout.readline(), type=load.Outcome)
        if outcome.errors:
            raise LoadFailed(f"{job.script}: {outcome.errors} of {job.connections} clients: {outcome.first_error}")
        return outcome

    def introduce(self, server: Server, callers: Sequence[contract.Caller]) -> None:
        """Every worker has verified every caller once: argon2 is paid before anything is measured."""
        path = f"{contract.LIST_PATH}?states=AdminTask&limit=1"
        # Few at a time, because `serve` slows down an address with many logins that it has yet to verify; many
        # times each, because which worker a connection reaches is up to the kernel.
        for start in range(0, len(callers), INTRODUCED_AT_ONCE):
            few = list(callers[start : start + INTRODUCED_AT_ONCE])
            for number in range(3):
                job = load.Job(
                    port=server.port, script="get", seconds=0.0, connections=4 * len(few), callers=few,
                    run=f"i{number}", paths=[path], patient=True,
                )  # fmt: skip
                self._send(job)

    def measure(
        self,
        server: Server,
        script: str,
        callers: Sequence[contract.Caller],
        *,
        connections: int,
        seconds: float,
        warm_seconds: float = 0.3,
        paths: Sequence[str] = (),
    ) -> list[Run]:
        """Run a job after a short one to warm up; one Run for each of its steps, of which the first has the rate."""
        self._runs += 1
        job = load.Job(
            port=server.port, script=script, seconds=warm_seconds, connections=connections, callers=list(callers),
            run=f"w{self._runs}", paths=list(paths),
        )  # fmt: skip
        self._send(job)
        grouped = server.groups() if server.name == "serve" else (0.0, 0.0)
        before = server.cpu_seconds(), self._database.cpu_seconds(), machine_seconds()
        outcome = self._send(msgspec.structs.replace(job, seconds=seconds, run=f"m{self._runs}"))
        after = server.cpu_seconds(), self._database.cpu_seconds(), machine_seconds()
        ended = server.groups() if server.name == "serve" else (0.0, 0.0)
        transactions = ended[1] - grouped[1]
        ours = outcome.cpu_seconds + after[0] - before[0] + after[1] - before[1]
        each = 1e6 / outcome.count
        return [
            Run(
                rate=outcome.count / outcome.seconds,
                p50_us=p50,
                p99_us=p99,
                server_cpu_us=(after[0] - before[0]) * each,
                database_cpu_us=(after[1] - before[1]) * each,
                group=(ended[0] - grouped[0]) / transactions if transactions else 0.0,
                load_cpu_us=outcome.cpu_seconds * each,
                count=outcome.count,
                others=max(0.0, after[2] - before[2] - ours) / outcome.seconds,
            )
            for p50, p99 in zip(outcome.p50_us, outcome.p99_us, strict=True)
        ]


@contextmanager
def load_generator(scratch: Scratch) -> Iterator[Load]:
    """The load generator, waiting for jobs."""
    process = subprocess.Popen([sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Load(scratch, process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(15)
