"""What an operator's probes ask: whether the service can work, and what has waited longest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Generic, TypeVar

from msgspec import Struct

from counterfoil.domain.refusals import Busy
from counterfoil.storage import attempts, migrations, organisations, requests, restores
from counterfoil.storage.attempts import Oldest
from counterfoil.storage.database import Pool, acquire, open_pool

__all__ = ["Pool", "Probes", "oldest_pending", "seconds_until_free", "why_not_ready", "why_not_usable"]

PROBE_SECONDS = 1.0
CONNECT_SECONDS = 10.0
ORGANISATIONS_MAX = 500
KEPT_SECONDS = 1.0

T = TypeVar("T")


async def why_not_ready(pool: Pool, seconds: float = PROBE_SECONDS) -> str | None:
    """Why no request should be sent here now; None when the service can work. The database has `seconds` to answer."""
    try:
        async with asyncio.timeout(seconds), acquire(pool, seconds) as connection:
            pending = await migrations.pending(connection)
    except (Busy, TimeoutError):
        return "the database does not answer"
    except migrations.MigrationError as error:
        return str(error)
    return f"the database lacks {', '.join(pending)}: run `counterfoil migrate`" if pending else None


async def why_not_usable(url: str) -> str | None:
    """Why the service should not be started on this database; None when it can work with it."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            pool = await open_pool(url, size=1, statement_cache=0)
    except TimeoutError:
        return f"the database does not answer within {CONNECT_SECONDS:.0f} s"
    except Exception as error:  # noqa: BLE001 - wrong password, no such database, no route: all are the operator's
        return f"cannot connect to the database of DATABASE_URL: {error}"
    try:
        return await why_not_ready(pool, CONNECT_SECONDS)
    finally:
        await pool.close()


async def seconds_until_free(pool: Pool) -> float | None:
    """How long somebody waits for a database connection now; None when there is none to be had."""
    started_at = asyncio.get_running_loop().time()
    try:
        async with acquire(pool, CONNECT_SECONDS):
            return asyncio.get_running_loop().time() - started_at
    except Busy:
        return None


async def oldest_pending(pool: Pool) -> dict[int, datetime]:
    """When the oldest undecided request of each organisation was submitted; the first 500 organisations."""
    found: dict[int, datetime] = {}
    async with acquire(pool) as connection:
        for org_id in (await organisations.list_organisations(connection))[:ORGANISATIONS_MAX]:
            at = await requests.oldest_pending(connection, org_id)
            if at is not None:
                found[org_id] = at
    return found


class Waiting(Struct, frozen=True):
    """What waits for external hosts by organisation, and why nothing is executed, if so."""

    oldest: dict[int, Oldest]
    why_paused: str | None


async def waiting_outside(pool: Pool) -> Waiting:
    """Since when requests wait for external hosts; the first 500 organisations that have any."""
    async with acquire(pool) as connection:
        reason = await restores.why_paused(connection)
        org_ids = (await attempts.organisations_with_open(connection))[:ORGANISATIONS_MAX]
        return Waiting({org_id: await attempts.oldest_open(connection, org_id) for org_id in org_ids}, reason)


async def why_paused(pool: Pool) -> str | None:
    """Why nothing is executed on external hosts now; None when it is, or while the database is away."""
    try:
        async with asyncio.timeout(PROBE_SECONDS), acquire(pool, PROBE_SECONDS) as connection:
            return await restores.why_paused(connection)
    except (Busy, TimeoutError):
        return None


class _Kept(Generic[T]):
    """What was found is good for a second, and who asks meanwhile waits for the same question."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[T] | None = None
        self._found: tuple[T, float] | None = None

    async def get(self) -> T:
        now = asyncio.get_running_loop().time()
        if self._found is not None and now < self._found[1]:
            return self._found[0]
        if self._asking is None:
            self._asking = asyncio.create_task(self._find(now + KEPT_SECONDS))
        # Shielded: the caller who goes away must not take the others' answer along.
        return await asyncio.shield(self._asking)

    async def _find(self, until: float) -> T:
        try:
            found = await self._ask()
        finally:
            self._asking = None
        self._found = found, until
        return found


class Probes:
    """What anybody may ask at any rate, as nobody has to sign in for it: the database is asked once a second."""

    def __init__(self, pool: Pool) -> None:
        self._reason = _Kept(lambda: why_not_ready(pool))
        self._oldest = _Kept(lambda: oldest_pending(pool))
        self._waiting = _Kept(lambda: waiting_outside(pool))
        self._paused = _Kept(lambda: why_paused(pool))

    async def why_not_ready(self) -> str | None:
        """As `why_not_ready`."""
        return await self._reason.get()

    async def oldest_pending(self) -> dict[int, datetime]:
        """As `oldest_pending`."""
        return await self._oldest.get()

    async def why_paused(self) -> str | None:
        """As `why_paused`."""
        return await self._paused.get()

    async def waiting_outside(self) -> Waiting:
        """As `waiting_outside`."""
        return await self._waiting.get()
