"""`counterfoil serve` as processes: it starts, survives the death of its parts, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from counterfoil.application.keys import create_keys

START_SECONDS = 30
HEAD = (
    b"POST /counterfoil/v1/ui-token HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
    b"expect: 100-continue\r\n\r\n"
)


@dataclass
class Served:
    """A running `counterfoil serve`."""

    process: subprocess.Popen[str]
    url: str
    errors: Path
    data_dir: Path
    seen: list[psutil.Process] = field(default_factory=list)

    @property
    def workers(self) -> list[psutil.Process]:
        """Its workers; each is remembered, to be looked for at the end."""
        found = psutil.Process(self.process.pid).children()
        self.seen += found
        return found

    @property
    def postgres(self) -> psutil.Process:
        """Its embedded database."""
        pid = int((self.data_dir / "cluster" / "postmaster.pid").read_text().split("\n", 1)[0])
        self.seen.append(psutil.Process(pid))
        return self.seen[-1]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def logged(self, event: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.errors.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def assert_nothing_is_left(self) -> None:
        until(lambda: not [each for each in self.seen if each.is_running() and each.status() != "zombie"])
        with socket.create_server(("127.0.0.1", self.port)):
            pass


@contextmanager
def half_a_request(served: Served) -> Iterator[socket.socket]:
    """A connection on which a worker waits for the last byte of a body."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(HEAD)
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{")
        yield connection


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # the one that took it went away
        pass
    return False


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it never happened"
        time.sleep(0.05)


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERFOIL_")}
    kept.pop("DATABASE_URL", None)
    kept.pop("PROMETHEUS_MULTIPROC_DIR", None)
    return kept | {"COUNTERFOIL_PORT": "0", "COUNTERFOIL_WORKERS": "2", "COUNTERFOIL_DRAIN_SECONDS": "5"} | changes


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from counterfoil.cli.main import main; main()", *arguments]


@pytest.fixture
def serve(data_dir: Path, tmp_path: Path, kept_port: int) -> Iterator[Callable[..., Served]]:
    """Start the command with these variables; it is gone after the test."""
    started: list[Served] = []

    def start(**changes: str) -> Served:
        errors = tmp_path / "errors"
        at = {"COUNTERFOIL_DATA_DIR": str(data_dir), "COUNTERFOIL_PORT": str(kept_port)}
        with errors.open("w") as stream:
            process = subprocess.Popen(
                command("serve"), env=environment(**at, **changes),
                stdout=subprocess.PIPE, stderr=stream, text=True,
            )  # fmt: skip
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("Counterfoil serves on http://127.0.0.1:"), errors.read_text()
        served = Served(process, line.split()[3], errors, data_dir)
        started.append(served)
        assert len(served.workers) == 2
        return served

    yield start
    for served in started:
        served.process.terminate()
        served.process.wait(30)
        if served.process.stdout:
            served.process.stdout.close()


@pytest.fixture
def serve_on_database(serve: Callable[..., Served], database_url: str, data_dir: Path) -> Callable[..., Served]:
    """The command on a database of the operator's."""
    create_keys(data_dir / "keys.json")
    return partial(serve, DATABASE_URL=database_url)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_leaves_nothing_behind(serve_on_database: Callable[..., Served], number: int) -> None:
    served = serve_on_database()
    until(served.is_ready)
    served.process.send_signal(number)
    assert served.process.wait(30) == 0
    served.assert_nothing_is_left()
    assert "Traceback" not in served.errors.read_text()


def test_what_is_in_flight_is_answered_first(serve_on_database: Callable[..., Served]) -> None:
    served = serve_on_database(COUNTERFOIL_DRAIN_SECONDS="60")
    with half_a_request(served) as connection:
        served.process.terminate()
        until(lambda: is_refused(served.port))
        connection.sendall(b"}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert served.process.wait(30) == 0


def test_who_never_finishes_is_not_waited_for(serve_on_database: Callable[..., Served]) -> None:
    served = serve_on_database(COUNTERFOIL_DRAIN_SECONDS="1")
    with half_a_request(served):
        served.process.terminate()
        assert served.process.wait(30) == 0
    served.assert_nothing_is_left()


def test_a_second_interrupt_stops_at_once(serve_on_database: Callable[..., Served]) -> None:
    served = serve_on_database(COUNTERFOIL_DRAIN_SECONDS="600")
    with half_a_request(served):
        served.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            served.process.wait(1)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(30) == 0
    served.assert_nothing_is_left()


def test_a_killed_worker_is_replaced(serve_on_database: Callable[..., Served]) -> None:
    served = serve_on_database()
    victim, other = served.workers
    assert served.is_ready()
    victim.kill()
    until(lambda: bool(served.logged("worker died")))
    until(lambda: len(served.workers) == 2 and victim.pid not in {each.pid for each in served.workers})
    assert other.is_running()
    until(served.is_ready)
    metrics = httpx.get(f"{served.url}/metrics", timeout=60).text
    assert 'counterfoil_http_requests_total{route="GET /readyz",status="200"}' in metrics


@pytest.mark.slow
def test_everything_ends_when_the_supervisor_is_killed(serve: Callable[..., Served]) -> None:
    served = serve()
    assert served.postgres.is_running()
    served.process.kill()
    served.process.wait(5)
    served.assert_nothing_is_left()


@pytest.mark.slow
def test_a_killed_database_is_started_again(serve: Callable[..., Served]) -> None:
    served = serve()
    until(served.is_ready)
    dead = served.postgres
    dead.kill()
    until(lambda: bool(served.logged("the embedded database died: starting it again")))
    until(served.is_ready)
    assert served.postgres.pid != dead.pid
    served.process.terminate()
    assert served.process.wait(30) == 0
    served.assert_nothing_is_left()


@pytest.mark.slow
def test_it_can_be_ended_while_it_starts(data_dir: Path) -> None:
    process = subprocess.Popen(
        command("serve"), env=environment(COUNTERFOIL_DATA_DIR=str(data_dir)), stdout=subprocess.DEVNULL
    )
    until((data_dir / "cluster" / "postmaster.pid").exists)
    process.terminate()
    process.wait(30)
    assert not (data_dir / "cluster" / "postmaster.pid").exists()


def refused(*arguments: str, **changes: str) -> str:
    """What a command says that cannot do its work."""
    ran = subprocess.run(
        command(*arguments), check=False, env=environment(**changes), capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert ran.stderr.count("\n") == 1
    return ran.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused("serve", COUNTERFOIL_PORT=str(port), COUNTERFOIL_DATA_DIR=str(tmp_path / "data"))
    assert f"port {port} of 127.0.0.1 is in use" in said
    assert not (tmp_path / "data").exists()


def test_a_wrong_setting_is_named() -> None:
    assert "COUNTERFOIL_WORKERS 'many'" in refused("serve", COUNTERFOIL_WORKERS="many")


def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    create_keys(tmp_path / "keys.json")
    url = "postgresql://somebody:secret@127.0.0.1:1/x"
    said = refused("serve", DATABASE_URL=url, COUNTERFOIL_DATA_DIR=str(tmp_path))
    assert "DATABASE_URL" in said
    assert "secret" not in said


def test_an_old_schema_is_named(empty_database_url: str, tmp_path: Path) -> None:
    create_keys(tmp_path / "keys.json")
    said = refused("serve", DATABASE_URL=empty_database_url, COUNTERFOIL_DATA_DIR=str(tmp_path))
    assert "run `counterfoil migrate`" in said


def test_missing_keys_are_named(database_url: str, tmp_path: Path) -> None:
    said = refused("serve", DATABASE_URL=database_url, COUNTERFOIL_DATA_DIR=str(tmp_path))
    assert "counterfoil keys create" in said


@pytest.mark.slow
def test_keys_and_migrations_by_hand(empty_database_url: str, tmp_path: Path) -> None:
    given = environment(DATABASE_URL=empty_database_url, COUNTERFOIL_DATA_DIR=str(tmp_path / "data"))
    for arguments, said in (
        (("keys", "create"), "keys.json"),
        (("migrate",), "applied 0001"),
        (("migrate",), "the schema is current\n"),
        (("--version",), "0.1.0"),
    ):
        ran = subprocess.run(command(*arguments), check=True, env=given, capture_output=True, text=True)
        assert said in ran.stdout
    assert "exists already" in refused(
        "keys", "create", DATABASE_URL=empty_database_url, COUNTERFOIL_DATA_DIR=str(tmp_path / "data")
    )
