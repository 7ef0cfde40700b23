"""`counterfoil sandbox`: the points API on loopback, with faults to order."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import yaml

from counterfoil.cli.supervisor import CannotServe
from counterfoil.sandbox.faults import Scenario, UnknownFault, read_scenario
from counterfoil.sandbox.ledger import Ledger
from counterfoil.sandbox.server import HOST, Sandbox


def sandbox(
    *, port: int = 8641, points: int = 1_000_000, scenario: Path | None = None, journal: Path | None = None
) -> int:
    """Serve the points API on loopback until Ctrl-C or SIGTERM, for tests: yours and ours.

    Parameters
    ----------
    port
        Where to listen on 127.0.0.1; 0 takes a free one.
    points
        How many points every member has at first.
    scenario
        A YAML or JSON file with rules for faults.
    journal
        A file that keeps every effect, so that a restarted sandbox knows them. Without it they are in memory only.
    """
    try:
        content = yaml.safe_load(scenario.read_text(encoding="utf-8")) if scenario else None
        rules = Scenario() if scenario is None else read_scenario(content)
    except (UnknownFault, UnicodeDecodeError, yaml.YAMLError) as error:
        sys.exit(f"counterfoil: {scenario}: {' '.join(str(error).split())}")
    ledger = Ledger(points * 1000, journal)
    ledger.open()
    asyncio.run(_serve(Sandbox(ledger, lambda: datetime.now(UTC), rules), port))
    ledger.close()
    return 0


async def _serve(served: Sandbox, port: int) -> None:
    ended = asyncio.Event()
    try:
        await served.open(port)
    except OSError as error:
        raise CannotServe(f"port {port} cannot be used: {error.strerror}") from error
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    sys.stdout.write(f"sandbox on http://{HOST}:{served.port}; what happened: /sandbox/effects\n")
    sys.stdout.flush()
    await ended.wait()
    await served.close()
