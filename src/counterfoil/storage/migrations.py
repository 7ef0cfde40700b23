"""Brings a database to the schema of this program: plain SQL files, in order, forward only.

Each file runs in a transaction of its own, so that a failure leaves what the file before it left.
What ran is kept in `schema_migration`, with a checksum: a file that was released never changes.
"""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
from msgspec import Struct

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

FOLDER = Path(__file__).with_suffix("")
LOCK_SECONDS_MAX = 5  # whoever waits for a table makes everybody behind him wait as well
STATEMENT_SECONDS_MAX = 600
TURN_SECONDS_MAX = 1800  # for another runner to finish

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_ENDS_TRANSACTION = re.compile(
    r"^\s*(BEGIN|COMMIT|ROLLBACK|START\s+TRANSACTION)\b[^;\n]*;", re.IGNORECASE | re.MULTILINE
)
_RUNNERS_TURN = 0x636F756E74657266  # the lock of the runners; any number that nobody else uses
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(Exception):
    """The schema cannot be brought, or is not, where this program needs it; the message says why."""


class DatabaseNewer(MigrationError):
    """A newer program has migrated this database."""


class SchemaBehind(MigrationError):
    """Migrations of this program have not run yet."""


class Migration(Struct, frozen=True):
    version: int
    name: str
    sql: str
    checksum: str


def available(folder: Path = FOLDER) -> list[Migration]:
    """Return the migrations of this program, in order."""
    migrations = [_read(path) for path in sorted(folder.glob("*.sql"))]
    versions = [migration.version for migration in migrations]
    if versions != list(range(1, len(versions) + 1)):
        raise MigrationError(f"the migrations in {folder} must be numbered 0001, 0002, … without a gap: {versions}")
    return migrations


async def migrate(url: str, folder: Path = FOLDER, *, lock_seconds_max: float = LOCK_SECONDS_MAX) -> list[str]:
    """Apply what is pending and return its names. Runners that meet take turns."""
    # No prepared statements: this connection may well go through a transaction pooler.
    connection = await asyncpg.connect(url, statement_cache_size=0, server_settings={"application_name": "migrate"})
    try:
        applied: list[str] = []
        while name := await _apply_next(connection, folder, lock_seconds_max):
            applied.append(name)
        return applied
    finally:
        await connection.close()


async def pending(connection: "Connection", folder: Path = FOLDER) -> list[str]:
    """Return the names of the migrations that have not run; raises if the database is not ours to run on."""
    return [migration.name for migration in await _pending(connection, folder)]


async def check(connection: "Connection", folder: Path = FOLDER) -> None:
    """Raise MigrationError unless the schema is exactly the one of this program."""
    names = await pending(connection, folder)
    if names:
        raise SchemaBehind(f"the database lacks {', '.join(names)}: run `counterfoil migrate`")


def _read(path: Path) -> Migration:
    matched = _FILE_NAME.fullmatch(path.name)
    if matched is None:
        raise MigrationError(f"{path} is not named like 0001_what_it_does.sql")
    sql = path.read_text(encoding="utf-8")  # universal newlines: the checksum is the same on every system
    if forbidden := _ENDS_TRANSACTION.search(sql):
        raise MigrationError(f"{path}: the runner holds the transaction; take out {forbidden[0].strip()}")
    return Migration(int(matched[1]), path.stem, sql, hashlib.sha256(sql.encode()).hexdigest())


async def _apply_next(connection: "Connection", folder: Path, lock_seconds_max: float) -> str | None:
    """Apply the first pending migration, in one transaction, and return its name."""
    async with connection.transaction():
        await _set_limits(connection, lock_seconds=TURN_SECONDS_MAX, statement_seconds=TURN_SECONDS_MAX)
        await connection.execute(f"SELECT pg_advisory_xact_lock({_RUNNERS_TURN})")
        await _set_limits(connection, lock_seconds=lock_seconds_max, statement_seconds=STATEMENT_SECONDS_MAX)
        await connection.execute(_TABLE)
        migrations = await _pending(connection, folder)
        if not migrations:
            return None
        migration = migrations[0]
        try:
            await connection.execute(migration.sql)
        except asyncpg.LockNotAvailableError as error:
            raise MigrationError(
                f"{migration.name} waited {lock_seconds_max} s for a table and left nothing: try again"
            ) from error
        except asyncpg.PostgresError as error:
            line = migration.sql.count("\n", 0, int(error.position or 0)) + 1
            raise MigrationError(f"{migration.name} failed at line {line} and left nothing: {error}") from error
        await connection.execute(
            "INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
        return migration.name


async def _set_limits(connection: "Connection", *, lock_seconds: float, statement_seconds: float) -> None:
    await connection.execute(
        f"SET LOCAL lock_timeout = {int(lock_seconds * 1000)}; "
        f"SET LOCAL statement_timeout = {int(statement_seconds * 1000)}"
    )


async def _pending(connection: "Connection", folder: Path) -> list[Migration]:
    migrations = available(folder)
    known = {migration.version: migration for migration in migrations}
    applied = await _applied(connection)
    for version, name, checksum in applied:
        if version not in known:
            raise DatabaseNewer(f"the database is newer than this program: it has {name}; install a newer program")
        if known[version].checksum != checksum:
            raise MigrationError(f"{known[version].name} is not the file that was applied: put the released one back")
    return migrations[len(applied) :]


async def _applied(connection: "Connection") -> list[tuple[int, str, str]]:
    # Asked first, because a failed statement would end the transaction that the caller may be in.
    if await connection.fetchval("SELECT to_regclass('schema_migration')") is None:
        return []
    rows = await connection.fetch("SELECT version, name, checksum FROM schema_migration ORDER BY version")
    return [(row["version"], row["name"], row["checksum"]) for row in rows]
