"""Real PostgreSQL for every test that wants one.

`database_url` is a fresh, migrated database per test. One server per PostgreSQL version serves the whole run,
all xdist workers together; the process that started the run sees to its end.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from counterfoil.storage import accounts, embedded, migrations
from tests.sockets import keep_port

T = TypeVar("T")
RUN_PREFIX = "counterfoil-test-"
MEMORY, MEMORY_BYTES_MIN = Path("/dev/shm"), 4 << 30  # noqa: S108 - mkdtemp makes the folder
RUN = pytest.StashKey[Path]()
RUN_LOCK = pytest.StashKey[Any]()
POSTGRES15 = os.environ.get("COUNTERFOIL_TEST_POSTGRES15")
VERSIONS = {"pg18": embedded.shipped_programs()} | ({"pg15": Path(POSTGRES15)} if POSTGRES15 else {})

# A slow machine is no counterexample.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# What a crash test needs, a throw-away server does not: tests of crashes start a server of their own.
UNSAFE_BUT_FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "64MB",
}


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.stash[RUN] = Path(config.workerinput["counterfoil_run"])
        return
    _end_abandoned_runs()
    config.stash[RUN] = Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=_root()))
    config.stash[RUN].chmod(0o711)  # as root, the servers' account must get at their folders, which are private
    config.stash[RUN_LOCK] = _try_lock(config.stash[RUN])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["counterfoil_run"] = str(node.config.stash[RUN])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: the one that ran last would keep one process busy, and the others waiting."""

    def is_long(item: pytest.Item) -> bool:
        limit = item.get_closest_marker("timeout")
        return limit is not None and limit.args[0] > 600

    items.sort(key=is_long, reverse=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUN_LOCK in config.stash:  # the workers have ended by now
        _end_run(config.stash[RUN])
        config.stash[RUN_LOCK].close()


def _root() -> Path:
    """Memory where there is enough: disks are slow at making a database's thousand files after dropping another's."""
    with suppress(OSError):
        found = os.statvfs(MEMORY)
        if found.f_bavail * found.f_frsize >= MEMORY_BYTES_MIN and not found.f_flag & os.ST_NOEXEC:
            return MEMORY
    return Path(tempfile.gettempdir())


def _try_lock(run: Path) -> Any:
    """Return the lock that shows that a run is alive, or None if another process has it."""
    lock = (run / "alive.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _end_abandoned_runs() -> None:
    """A run that was killed leaves its servers: the next one stops them."""
    for run in {run for root in (MEMORY, Path(tempfile.gettempdir())) for run in root.glob(f"{RUN_PREFIX}*")}:
        # Another user's run is not ours to end, nor is a name that somebody else put there.
        lock = _try_lock(run) if run.lstat().st_uid == os.geteuid() else None
        if lock:
            _end_run(run)
            lock.close()


def _end_run(run: Path) -> None:
    """A server that still runs here has lost its worker: to join it and leave as the last one stops it."""
    for pid_file in run.glob("**/cluster/postmaster.pid"):
        with suppress(embedded.EmbeddedError):  # it crashed, too, and cannot be started
            embedded.stop(embedded.start(pid_file.parents[1]))
    shutil.rmtree(run, ignore_errors=True)


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL: `url` leads to its database `postgres`."""

    name: str
    url: str
    template: str

    def url_of(self, database: str) -> str:
        return self.url.replace("/postgres?", f"/{database}?")


@pytest.fixture(scope="session", params=list(VERSIONS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server of one PostgreSQL version, shared by the run; tests that use it run on each version."""
    run, name = request.config.stash[RUN], request.param
    handle = embedded.start(run / name, programs=VERSIONS[name], settings=UNSAFE_BUT_FAST)
    try:
        with (run / f"{name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            template = wait_for(_ensure_template(handle.url))
        yield Server(name, handle.url, template)
    finally:
        embedded.stop(handle)


@pytest.fixture
def database_url(server: Server) -> Iterator[str]:
    """A database of the test's own, with all migrations applied."""
    yield from _database(server, server.template)


@pytest.fixture
def empty_database_url(server: Server) -> Iterator[str]:
    """A database of the test's own, without a schema."""
    yield from _database(server, "template0")


@pytest.fixture
def data_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for an embedded server of the test's own, which the test stops.

    Not `tmp_path`: its path may be too long for a socket, and if root runs the tests only root may enter it.
    """
    folder = Path(tempfile.mkdtemp(prefix="data-", dir=request.config.stash[RUN]))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def kept_port() -> Iterator[int]:
    """A port on which nothing listens by itself; no other test is given it while this one runs."""
    with keep_port() as kept:
        yield kept.getsockname()[1]


@pytest.fixture
def reads_that_never_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A locking read that took long is done once more, as if it had waited: with this, not on a slow machine."""
    monkeypatch.setattr(accounts, "_WAITED_SECONDS", 60)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Async tests run as the service does."""
    return "asyncio", {"use_uvloop": True}


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run this to its end, whether or not an event loop is running in this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _database(server: Server, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    wait_for(_execute(server.url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    yield server.url_of(name)
    wait_for(_execute(server.url, f'DROP DATABASE "{name}" WITH (FORCE)'))


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _ensure_template(url: str) -> str:
    """Migrate a database that the tests' own are copies of; it gets its name when it is whole."""
    migrated = hashlib.sha256("".join(each.checksum for each in migrations.available()).encode())
    name = f"template_{migrated.hexdigest()[:16]}"
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name):
            await connection.execute("DROP DATABASE IF EXISTS unfinished")
            await connection.execute("CREATE DATABASE unfinished TEMPLATE template0")
            await migrations.migrate(url.replace("/postgres?", "/unfinished?"))
            await connection.execute(f'ALTER DATABASE unfinished RENAME TO "{name}"')
    finally:
        await connection.close()
    return name
