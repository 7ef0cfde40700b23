"""`counterfoil resume`: go on after the database was restored."""

from __future__ import annotations

import asyncio
import os
import sys

from counterfoil.application import restores
from counterfoil.cli.org import database
from counterfoil.settings import load_settings
from counterfoil.storage.database import open_pool


def resume(*, after_restore: bool = False) -> int:
    """Execute again after the database was restored to an earlier time, or a standby was promoted.

    Requests that were approved around the restore point may have been executed: they become unknown and are looked
    up; what cannot be looked up becomes an incident.

    Parameters
    ----------
    after_restore
        Say that you know of the restore; without it nothing is done.
    """
    if not after_restore:
        print("nothing was done: add --after-restore when the database was restored", file=sys.stderr)  # noqa: T201
        return 1
    with database(load_settings(os.environ)) as url:
        done = asyncio.run(_resume(url))
    if done.reason is None:
        print("nothing is paused")  # noqa: T201
    else:
        print(f"resumed; {done.doubted} approved requests are being looked up")  # noqa: T201
    return 0


async def _resume(url: str) -> restores.Resumed:
    pool = await open_pool(url, size=1, statement_cache=0)
    try:
        return await restores.resume(pool)
    finally:
        await pool.close()
