"""`counterfoil serve` as an operator runs it: a process, an address, a log."""

from __future__ import annotations

import asyncio
import os
import re
import selectors
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from counterfoil.application import keys
from tests import invariants
from tests.sockets import keep_port

START_SECONDS = 60
STOP_SECONDS = 45
CORRELATION = re.compile(r"[0-9a-f]{32}")
PROGRAM = (sys.executable, "-m", "counterfoil")


class Serve:
    """A running service. What its log or an error body must never show is added to `secrets`."""

    def __init__(self, folder: Path, *, database_url: str | None = None, **variables: object) -> None:
        self.folder = folder
        self.database_url = database_url
        self.log = folder / "serve.log"
        self.secrets: set[str] = set()
        # Bound all its life: no other test is given the port between an end and the next start.
        kept = keep_port()
        weakref.finalize(self, kept.close)
        given = {"COUNTERFOIL_PORT": kept.getsockname()[1]} | variables
        self.environment = environment_of(folder, database_url, **given)
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        if database_url is not None:
            keys.load_or_create_keys(folder / "keys.json")

    def start(self) -> None:
        """Start it, and wait until every worker answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*PROGRAM, "serve"], env=self.environment, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL
            )
        line = _first_line(self.process)
        found = re.search(rb"http://[^ ]+", line)
        assert found, f"{line!r}\n{self.log.read_text()}"
        self.url = found.group().decode()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and return its exit status; it must end by itself."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        assert self.process is not None
        try:
            return self.process.wait(timeout=STOP_SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()

    def client(self) -> httpx.Client:
        """A client that holds every answer to what all answers have in common."""
        return httpx.Client(
            base_url=self.url, timeout=30, trust_env=False, event_hooks={"response": [self.check_answer]}
        )

    def check_answer(self, answer: httpx.Response) -> None:
        """A request id; no 500; where it is an error: no secret, no invitation to a browser's login box."""
        answer.read()
        assert CORRELATION.fullmatch(answer.headers.get("X-CAP-REQUEST-ID", "")), answer.headers
        assert answer.status_code != 500, "\n".join([answer.text, *self.logged_faults()])
        if answer.status_code >= 400:
            assert "www-authenticate" not in answer.headers
            shown = answer.text + str(answer.headers)
            assert not [secret for secret in self.secrets if secret in shown], "an error shows a secret"

    def logged_secrets(self) -> list[str]:
        """What stands in the log and should not."""
        text = self.log.read_text(errors="replace")
        return [secret for secret in self.secrets if secret in text]

    def logged_faults(self) -> list[str]:
        """The lines of the log that tell of a failure of our own."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if '"fault"' in line]

    def rows(self, sql: str, *arguments: object) -> list[Any]:
        """Look into the database."""
        assert self.database_url is not None
        return fetch(self.database_url, sql, *arguments)


def environment_of(folder: Path, database_url: str | None, **variables: object) -> dict[str, str]:
    """The environment of a command that works in this folder, and of nothing else on this machine."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COUNTERFOIL_") and name not in ("DATABASE_URL", "PROMETHEUS_MULTIPROC_DIR")
    }
    given: dict[str, object] = {
        "COUNTERFOIL_DATA_DIR": folder,
        "COUNTERFOIL_KEYS_FILE": folder / "keys.json",
        "COUNTERFOIL_SESSION_FILE": folder / "session.json",
        "COUNTERFOIL_PORT": 0,
        "COUNTERFOIL_WORKERS": 1,
        "DATABASE_URL": database_url or "",
    }
    return inherited | {name: str(value) for name, value in (given | variables).items()}


def command(*arguments: str | Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `counterfoil` with these arguments to its end."""
    return subprocess.run(
        [*PROGRAM, *arguments], env=dict(environment), capture_output=True, text=True, check=False, timeout=100
    )


def fetch(url: str, sql: str, *arguments: object) -> list[Any]:
    """The rows of one statement."""

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:  # whether or not an event loop runs in this one
        return thread.submit(asyncio.run, run()).result()


def broken_rules(serve: Serve) -> list[str]:
    """What in the database breaks a rule that must always hold (design.md §10)."""

    async def run() -> list[str]:
        connection = await asyncpg.connect(serve.database_url)
        try:
            return await invariants.broken(connection)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, run()).result()


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """What it says first, or b"" when it ends or says nothing for too long."""
    assert process.stdout is not None
    give_up_at = time.monotonic() + START_SECONDS
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not said.endswith(b"\n") and (left := give_up_at - time.monotonic()) > 0:
            if selector.select(left):
                chunk = os.read(process.stdout.fileno(), 4096)
                if not chunk:
                    break
                said += chunk
    return said
