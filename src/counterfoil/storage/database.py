"""The connection to PostgreSQL: the pool, one visible transaction, and what an error means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from counterfoil.domain.refusals import Busy

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Tx = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Tx = asyncpg.Connection

# The connection or the server went away: whether a COMMIT arrived is not known.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,  # the driver's state after its server was shot in the middle of an answer
    OSError,
    asyncio.TimeoutError,
)
# What an operator must put right before a command can work: address, password, rights, a server that is away.
UNUSABLE = (*LOST, asyncpg.PostgresError)
# Another transaction was in the way: load again and decide again.
CLASH = (asyncpg.UniqueViolationError, asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
# A row stayed locked by somebody else for the whole lock_timeout, or a statement took too long.
BLOCKED = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)


async def open_pool(url: str, *, size: int, statement_cache: int = 100, timeout_seconds: float = 10.0) -> Pool:
    """Connect `size` connections. `statement_cache` is 0 behind a transaction pooler."""
    pool: Pool = await asyncpg.create_pool(
        url,
        min_size=min(size, 2),
        max_size=size,
        statement_cache_size=statement_cache,
        max_inactive_connection_lifetime=0,
        timeout=timeout_seconds,
        command_timeout=timeout_seconds,
        server_settings={"application_name": "counterfoil"},
        reset=_no_reset,
    )
    return pool


async def _no_reset(_connection: Any) -> None:
    """Nothing depends on session state, so nothing is reset: a round trip saved on each release."""


@asynccontextmanager
async def acquire(pool: Pool, seconds: float = 5.0) -> AsyncIterator[Tx]:
    """One connection for reading; raises Busy when none comes free in time or the database is away."""
    try:
        async with pool.acquire(timeout=seconds) as connection:
            yield connection
    except LOST as error:
        raise Busy("the database is not answering: send the same call again", retry_after_seconds=2) from error


@asynccontextmanager
async def transaction(pool: Pool, *, lock_timeout_ms: int, acquire_seconds: float = 5.0) -> AsyncIterator[Tx]:
    """One transaction on a connection of the pool."""
    async with (
        pool.acquire(timeout=acquire_seconds) as connection,
        in_transaction(connection, lock_timeout_ms=lock_timeout_ms),
    ):
        yield connection


@asynccontextmanager
async def in_transaction(connection: Tx, *, lock_timeout_ms: int) -> AsyncIterator[None]:
    """Commits when the block ends, rolls back when it raises.

    BEGIN and its settings are one round trip, and so is COMMIT.
    """
    await connection.execute(
        f"BEGIN; SET LOCAL lock_timeout = {int(lock_timeout_ms)}; "
        f"SET LOCAL statement_timeout = {int(lock_timeout_ms) * 4}; SET LOCAL plan_cache_mode = force_generic_plan"
    )
    try:
        yield
    except BaseException:
        with suppress(*LOST, asyncpg.PostgresError):
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
