"""The bench's own PostgreSQL: the embedded server with the product's own settings, on a folder of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import asyncpg
import psutil

from counterfoil.storage import embedded, migrations

TEMPLATE = "migrated"


@dataclass(frozen=True, slots=True)
class Scratch:
    """A running server and its folder; everything in it is thrown away at the end."""

    folder: Path
    handle: embedded.Embedded

    def url(self, name: str) -> str:
        """The address of one of its databases."""
        return self.handle.url.replace("/postgres?", f"/{name}?")

    @property
    def postmaster(self) -> int:
        """The server's process; all others of the database are its children."""
        text = (self.handle.data_dir / "cluster" / "postmaster.pid").read_text(encoding="utf-8")
        return int(text.split("\n", 1)[0])

    def cpu_seconds(self) -> float:
        """What the whole server has used so far."""
        return process_seconds(self.postmaster)

    async def create(self, name: str, template: str = TEMPLATE) -> str:
        """A new database with the product's schema, or a copy of `template`; its address."""
        connection = await asyncpg.connect(self.handle.url)
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        finally:
            await connection.close()
        return self.url(name)

    async def drop(self, name: str) -> None:
        """The database is gone, whoever uses it."""
        connection = await asyncpg.connect(self.handle.url)
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        finally:
            await connection.close()

    def fsync_us(self) -> float:
        """The median time of a small write and fsync on this disk: what each commit waits for at least."""
        times = []
        with (self.folder / "fsync").open("wb", buffering=0) as file:
            for _ in range(100):
                started_at = time.perf_counter()
                file.write(b"x" * 8192)
                os.fsync(file.fileno())
                times.append(time.perf_counter() - started_at)
        return median(times) * 1e6


@contextmanager
def start() -> Iterator[Scratch]:
    """A server that ends with the bench, however that ends."""
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-bench-"))
    folder.chmod(0o711)  # as root, the server's account must get at its own folder inside
    try:
        handle = embedded.start(folder / "data")
        try:
            yield Scratch(folder, handle)
        finally:
            embedded.stop(handle)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def prepare(scratch: Scratch) -> None:
    """Migrate the database that all others are copies of."""
    await scratch.create(TEMPLATE, "template0")
    await migrations.migrate(scratch.url(TEMPLATE))


def backend_seconds(postmaster: int, name: str) -> float:
    """The CPU seconds of the clients' connections to one database, without vacuum, checkpoints and the like."""
    total = 0.0
    for process in psutil.Process(postmaster).children():
        try:
            if f" {name} [local]" in " ".join(process.cmdline()):
                times = process.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:
            continue  # a vacuum worker that ended a moment ago
    return total


def machine_seconds() -> float:
    """The CPU seconds that everything on this machine has used so far."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0)


def process_seconds(pid: int) -> float:
    """The CPU seconds of a process, its living descendants and its dead children."""
    root = psutil.Process(pid)
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it ended a moment ago: its parent has its time among its dead children's
        total += times.user + times.system + times.children_user + times.children_system
    return total
