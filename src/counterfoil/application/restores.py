"""After a restore: whether the database is still the one that the service worked with, and going on (design.md §7)."""

from __future__ import annotations

from msgspec import Struct

from counterfoil.application import ids
from counterfoil.application.attempts import doubt_requests
from counterfoil.storage import attempts, organisations, restores
from counterfoil.storage.database import Pool, acquire, transaction

BATCH_MAX = 500
LOCK_TIMEOUT_MS = 10_000


class Resumed(Struct, frozen=True):
    """What resuming has done; `reason` is None where nothing was paused."""

    reason: str | None
    doubted: int


async def why_paused(pool: Pool) -> str | None:
    """Why nothing may be executed now; None while the database is the one that was marked."""
    async with acquire(pool) as connection:
        return await restores.why_paused(connection)


async def resume(pool: Pool) -> Resumed:
    """Turn what may have been executed after the restore point into `unknown`, then go on; safe to run again."""
    async with acquire(pool) as connection:
        identity = await restores.find_identity(connection)
        org_ids = await attempts.organisations_with_open(connection)
    if identity.why_paused is None:
        return Resumed(None, 0)
    doubted = 0
    for org_id in org_ids:
        while True:
            async with transaction(pool, lock_timeout_ms=LOCK_TIMEOUT_MS) as tx:
                organisation = await organisations.find_organisation(tx, org_id)
                request_ids = await restores.list_approved(tx, org_id, BATCH_MAX)
                if organisation is None or not request_ids:
                    break
                await doubt_requests(tx, organisation, [(ids.uuid7(), each, ids.salt()) for each in request_ids])
                doubted += len(request_ids)
    async with transaction(pool, lock_timeout_ms=LOCK_TIMEOUT_MS) as tx:
        await restores.mark(tx, identity)
    return Resumed(identity.why_paused, doubted)
