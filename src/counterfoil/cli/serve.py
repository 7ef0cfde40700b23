"""`counterfoil serve`: the database where it is ours, the workers, and the end of both."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import psutil

from counterfoil import telemetry
from counterfoil.application import keys, operations
from counterfoil.cli.supervisor import CannotServe, Supervisor
from counterfoil.settings import Settings, load_settings
from counterfoil.storage import embedded, migrations

BACKLOG = 2048
WATCH_SECONDS = 0.5
# As prometheus_client names them: kind of metric, how a gauge is merged, process.
METRICS_FILE = re.compile(r"(counter|histogram|summary|gauge_[a-z]+)_\d+\.db")


def serve() -> None:
    """Serve the API until Ctrl-C or SIGTERM; what is in flight is answered first.

    Without DATABASE_URL an embedded PostgreSQL in COUNTERFOIL_DATA_DIR is started and migrated.
    """
    settings = load_settings(os.environ)
    telemetry.configure_logs(settings.log_level)
    run(settings, tell_where)


def tell_where(url: str) -> None:
    """Say where the service listens."""
    print(f"Counterfoil serves on {url} (API: {url}/docs, end: Ctrl-C)", flush=True)  # noqa: T201 - the command's own output


def run(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serve with these settings; `on_ready` gets the base URL as soon as every worker answers.

    Call it in the main thread. `on_ready` must not block: the workers are watched from the same thread.
    """
    # Until the supervisor takes the signals over, and after it gave them back, an end must be an orderly one:
    # a process that just dies would leave the embedded database running.
    signal.signal(signal.SIGTERM, _exit)
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL)
        # First of all: whoever cannot listen should not touch the database.
        listening = stack.enter_context(listen(settings.host, settings.port, settings.workers))
        ours = settings.database_url is None
        if ours:
            settings = replace(settings, database_url=stack.enter_context(own_database(settings)))
            keys.load_or_create_keys(settings.keys_path)
        else:
            keys.load_keys(settings.keys_path)
            if reason := asyncio.run(operations.why_not_usable(str(settings.database_url))):
                raise CannotServe(reason)
        settings = stack.enter_context(metrics_folder(settings))
        url = base_url(listening[0])
        try:
            asyncio.run(_supervise(settings, listening, lambda: on_ready(url), ours=ours))
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)


def _exit(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)


@contextmanager
def listen(host: str, port: int, count: int) -> Iterator[list[socket.socket]]:
    """As many sockets of one address as there are workers, all open here as well.

    With a socket each the system spreads connections evenly: workers that accept from the same one take 52
    and 12 of 64 that come at once. What waits on the socket of a dead worker waits for the next worker.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as stack:
        # Bound alone at first: two services with shared addresses would both get it, and not notice.
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(alone, host, port)
            port = alone.getsockname()[1]
        listening = [stack.enter_context(socket.socket(family, socket.SOCK_STREAM)) for _ in range(count)]
        for each in listening:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(each, host, port)
            each.listen(BACKLOG)
            each.setblocking(False)  # noqa: FBT003 - the socket's own signature
        yield listening


def _bind(listening: socket.socket, host: str, port: int) -> None:
    try:
        listening.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotServe(
                f"port {port} of {host} is in use: stop what listens there, or set COUNTERFOIL_PORT"
            ) from None
        raise CannotServe(f"cannot listen on port {port} of {host}: {error.strerror}") from None


def base_url(listening: socket.socket) -> str:
    """Where clients find the service."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def own_database(settings: Settings) -> Iterator[str]:
    """The address of the embedded database, started and migrated; it stops afterwards."""
    running = embedded.start(settings.data_dir)
    try:
        asyncio.run(migrations.migrate(running.url))
        yield running.url
    finally:
        embedded.stop(running)


@contextmanager
def metrics_folder(settings: Settings) -> Iterator[Settings]:
    """A folder in which the workers share their metrics, without those of an earlier run."""
    given = settings.metrics_dir
    folder = given or tempfile.mkdtemp(prefix="counterfoil-metrics-")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for left_over in Path(folder).glob("*.db"):
        if METRICS_FILE.fullmatch(left_over.name):  # the operator may keep other things there
            left_over.unlink()
    # The library that writes them reads the variable itself, in the workers and in this process.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        yield replace(settings, metrics_dir=folder)
    finally:
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        if not given:
            shutil.rmtree(folder, ignore_errors=True)


async def _supervise(
    settings: Settings, listening: Sequence[socket.socket], on_ready: Callable[[], None], *, ours: bool
) -> None:
    supervisor = Supervisor(settings, listening, embedded=ours)
    watch = asyncio.create_task(_keep_database(settings)) if ours else None
    try:
        await supervisor.run(on_ready)
    finally:
        if watch is not None:
            watch.cancel()


async def _keep_database(settings: Settings) -> None:
    """Start the embedded database again when it dies; it recovers what was committed."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        if not database_runs(settings):
            telemetry.log().error("the embedded database died: starting it again")
            try:
                handle = await asyncio.to_thread(embedded.start, settings.data_dir)
                # The hold of our own start is still there; this one was only for the start.
                handle.users.close()
            except embedded.EmbeddedError as error:
                telemetry.log().error("the embedded database does not start", reason=str(error))


def database_runs(settings: Settings) -> bool:
    """Whether the server process of the data folder is alive."""
    try:
        text = (settings.data_dir / "cluster" / "postmaster.pid").read_text(encoding="utf-8")
        process = psutil.Process(int(text.split("\n", 1)[0]))
        return process.status() != psutil.STATUS_ZOMBIE and "postgres" in process.name()
    except (OSError, ValueError, psutil.NoSuchProcess):
        return False
