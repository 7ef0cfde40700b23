"""For probes and scrapers: is the process up, can it work, and how is it doing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

import msgspec

from counterfoil.application.operations import Waiting
from counterfoil.domain.refusals import Busy
from counterfoil.http.routing import Answer, Call, Context

PROMETHEUS_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class Up(msgspec.Struct):
    """The process answers."""

    status: Literal["up"] = "up"


class Ready(msgspec.Struct):
    """Requests can be served. `paused` says why nothing is executed on external hosts, null when it is."""

    status: Literal["ready"] = "ready"
    paused: str | None = None


_UP = msgspec.json.encode(Up())


async def healthz(_context: Context, _call: Call) -> Answer:
    """Whether this process answers at all."""
    return Answer(200, _UP)


async def readyz(context: Context, _call: Call) -> Answer:
    """Whether the database answers within a second and has the schema of this program."""
    reason = await context.probes.why_not_ready()
    if reason is not None:
        raise Busy(f"not ready: {reason}", retry_after_seconds=1)
    return Answer(200, msgspec.json.encode(Ready(paused=await context.probes.why_paused())))


async def metrics(context: Context, _call: Call) -> Answer:
    """The metrics of all worker processes, in Prometheus' text form."""
    ages: Mapping[int, float] | None = None
    outside = b""
    # A scrape is wanted most of all when the database is away: then only the ages are missing.
    with suppress(Busy):
        submitted = await context.probes.oldest_pending()
        now = time.time()
        ages = {org_id: round(now - at.timestamp(), 3) for org_id, at in submitted.items()}
        outside = outside_metrics(await context.probes.waiting_outside(), now)
    body = await asyncio.to_thread(context.render_metrics, ages) + outside
    return Answer(200, body, content_type=PROMETHEUS_TEXT)


def outside_metrics(waiting: Waiting, now: float) -> bytes:
    """What waits for external hosts, in Prometheus' text form."""
    lines = ["# HELP counterfoil_paused 1 after a restore, until resumed", "# TYPE counterfoil_paused gauge",
             f"counterfoil_paused {int(waiting.why_paused is not None)}",
             "# HELP counterfoil_oldest_open_seconds Age of the oldest request that an external host has not ended",
             "# TYPE counterfoil_oldest_open_seconds gauge"]  # fmt: skip
    for org_id, oldest in waiting.oldest.items():
        lines += [
            f'counterfoil_oldest_open_seconds{{org_id="{org_id}",state="{state}"}} {now - at.timestamp():.3f}'
            for state, at in (("approved", oldest.approved), ("unknown", oldest.unknown))
            if at is not None
        ]
    lines += ["# HELP counterfoil_open_incidents Incidents that wait for people",
              "# TYPE counterfoil_open_incidents gauge"]  # fmt: skip
    lines += [
        f'counterfoil_open_incidents{{org_id="{org_id}"}} {oldest.incidents}'
        for org_id, oldest in waiting.oldest.items()
    ]
    return "\n".join(lines).encode() + b"\n"
