"""How a process gets its executor: from the settings, with a name of its own."""

from __future__ import annotations

import gc
import os
import secrets
import socket
from functools import partial

from counterfoil.application.group_commit import Limits
from counterfoil.domain.executions import Pace
from counterfoil.executor.engine import Bounds, open_executor
from counterfoil.http.app import StartExecutor
from counterfoil.settings import Settings


def limits_of(settings: Settings) -> Limits:
    """The bounds of the queues."""
    return Limits(queue_max=settings.queue_max, batch_max=settings.batch_max, lock_timeout_ms=settings.lock_timeout_ms)


def executor_of(settings: Settings) -> StartExecutor:
    """How this process starts its executor; each start has a name of its own in the leases."""
    pace = settings.pace_percent / 100
    bounds = Bounds(
        calls_max=settings.calls_max,
        lease_seconds=settings.lease_seconds,
        poll_seconds=0.5 * pace,
        drain_seconds=settings.drain_seconds,
        breaker_seconds=5.0 * pace,
        pace=Pace(1.0 * pace, 2.0 * pace),
    )
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    return partial(open_executor, bounds=bounds, owner=owner)


def spare_the_collector() -> None:
    """What is loaded by now stays: collecting it again and again costs a tenth of the CPU of a request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
