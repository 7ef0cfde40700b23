"""`counterfoil execute`: the executor alone, beside any number of others."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

from counterfoil import telemetry
from counterfoil.application import operations
from counterfoil.application.keys import KeysInUse
from counterfoil.application.organisations import Organisations
from counterfoil.cli.executors import executor_of, limits_of, spare_the_collector
from counterfoil.cli.supervisor import CannotServe
from counterfoil.settings import Settings, WrongSetting, load_settings
from counterfoil.storage.database import open_pool


def execute() -> None:
    """Execute approved requests on external hosts until Ctrl-C or SIGTERM; what is in flight is settled first."""
    settings = load_settings(os.environ)
    telemetry.configure_logs(settings.log_level)
    if settings.database_url is None:
        raise WrongSetting("DATABASE_URL is not set: with the embedded database `counterfoil serve` executes itself")
    if reason := asyncio.run(operations.why_not_usable(settings.database_url)):
        raise CannotServe(reason)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(settings, settings.database_url))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """The event loop that `serve` has."""
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop  # noqa: PLC0415 - there is none for Windows

    return uvloop.new_event_loop


async def _run(settings: Settings, url: str) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    keys = KeysInUse(settings.keys_path, telemetry.keys_not_read)
    pool = await open_pool(url, size=settings.pool_size, statement_cache=settings.statement_cache)
    try:
        start, observer = executor_of(settings), telemetry.Telemetry()
        async with start(pool, Organisations(pool), keys, limits_of(settings), observer):
            with telemetry.serve_metrics(observer.registry, settings.host, settings.execute_metrics_port):
                spare_the_collector()
                await _wait(stopping)
    finally:
        await pool.close()


async def _wait(stopping: asyncio.Event) -> None:
    print("Counterfoil executes (end: Ctrl-C)", flush=True)  # noqa: T201 - the command's own output
    await stopping.wait()
