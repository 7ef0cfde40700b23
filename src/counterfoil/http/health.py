"""For probes and scrapers: is the process up, can it work, and how is it doing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

import msgspec

from counterfoil.domain.refusals import Busy
from counterfoil.http.routing import Answer, Call, Context

PROMETHEUS_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class Up(msgspec.Struct):
    """The process answers."""

    status: Literal["up"] = "up"


class Ready(msgspec.Struct):
    """Requests can be served."""

    status: Literal["ready"] = "ready"


_UP = msgspec.json.encode(Up())
_READY = msgspec.json.encode(Ready())


async def healthz(_context: Context, _call: Call) -> Answer:
    """Whether this process answers at all."""
    return Answer(200, _UP)


async def readyz(context: Context, _call: Call) -> Answer:
    """Whether the database answers within a second and has the schema of this program."""
    reason = await context.probes.why_not_ready()
    if reason is not None:
        raise Busy(f"not ready: {reason}", retry_after_seconds=1)
    return Answer(200, _READY)


async def metrics(context: Context, _call: Call) -> Answer:
    """The metrics of all worker processes, in Prometheus' text form."""
    now = time.time()
    ages: Mapping[int, float] | None = None
    # A scrape is wanted most of all when the database is away: then only the ages are missing.
    with suppress(Busy):
        submitted = await context.probes.oldest_pending()
        ages = {org_id: round(now - at.timestamp(), 3) for org_id, at in submitted.items()}
    body = await asyncio.to_thread(context.render_metrics, ages)
    return Answer(200, body, content_type=PROMETHEUS_TEXT)
