"""What an operator's probes ask: whether the service can work, and what has waited longest."""

from __future__ import annotations

import asyncio
from datetime import datetime

from counterfoil.domain.refusals import Busy
from counterfoil.storage import migrations, organisations, requests
from counterfoil.storage.database import Pool, acquire

PROBE_SECONDS = 1.0
ORGANISATIONS_MAX = 500


async def why_not_ready(pool: Pool) -> str | None:
    """Why no request should be sent here now; None when the service can work."""
    try:
        async with asyncio.timeout(PROBE_SECONDS), acquire(pool, PROBE_SECONDS) as connection:
            pending = await migrations.pending(connection)
    except (Busy, TimeoutError):
        return "the database does not answer"
    except migrations.MigrationError as error:
        return str(error)
    return f"the database lacks {', '.join(pending)}: run `counterfoil migrate`" if pending else None


async def oldest_pending(pool: Pool) -> dict[int, datetime]:
    """When the oldest undecided request of each organisation was submitted; the first 500 organisations."""
    found: dict[int, datetime] = {}
    async with acquire(pool) as connection:
        for org_id in (await organisations.list_organisations(connection))[:ORGANISATIONS_MAX]:
            at = await requests.oldest_pending(connection, org_id)
            if at is not None:
                found[org_id] = at
    return found
