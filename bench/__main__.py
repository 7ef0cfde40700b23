"""`python -m bench`: all the small measurements; with letters only those; `--large`, `costs`, `profile`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from bench import costs, execution, inbox, over_http, policies, profiles, scratch, verbs
from bench.figures import Report
from bench.scratch import Scratch
from counterfoil.settings import Settings

Section = Callable[[Scratch, Report], None]
SMALL: dict[str, Section] = {
    "e": verbs.compare_with_hand_written,
    "abc": over_http.creates_and_lifecycles,
    "d": over_http.reads,
    "f": over_http.organisations,
    "g": inbox.first_page,
    "h": policies.compare_policies,
    "i": execution.execution,
}
LARGE: dict[str, Section] = {
    "d": over_http.reads_among_a_million,
    "g": inbox.first_page_among_a_million,
    "i": execution.among_very_many,
}
QUIET_CORES = 0.2
ALONE: dict[str, Section] = {"costs": costs.costs, "profile": profiles.profile}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help="a b c d e f g h i, costs, profile; default: a to i")
    parser.add_argument("--large", action="store_true", help="what needs a million rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round to a file as well")
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> list[Section]:
    table = LARGE if arguments.large else SMALL
    if not arguments.parts:
        return list(table.values())
    chosen: list[Section] = []
    for part in arguments.parts:
        section = ALONE.get(part) or next((each for name, each in table.items() if part in name), None)
        if section is None:
            sys.exit(f"bench: there is no part {part!r}: choose from a b c d e f g h i, costs, profile")
        if section not in chosen:
            chosen.append(section)
    return chosen


async def _server_settings(url: str) -> dict[str, str]:
    connection = await asyncpg.connect(url)
    try:
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "autovacuum_naptime")
        return {name: await connection.fetchval(f"SHOW {name}") for name in names}
    finally:
        await connection.close()


def _describe(server: Scratch) -> dict[str, Any]:
    """What the figures depend on."""
    settings = Settings()
    return {
        "cores": os.cpu_count(),
        "load average at the start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in ("uvicorn", "starlette", "asyncpg", "uvloop", "msgspec")},
        "postgresql": uvloop.run(_server_settings(server.handle.url)),
        "write and fsync, µs": round(server.fsync_us()),
        "workers": settings.workers,
        "pool of a worker": settings.pool_size,
        "batch_max": settings.batch_max,
    }


def main() -> None:
    """Measure, print, and say which targets are reached."""
    arguments = _arguments()
    sections = _chosen(arguments)
    report = Report()
    started_at = time.monotonic()
    with scratch.start() as server:
        uvloop.run(scratch.prepare(server))
        report.settings = _describe(server)
        print("settings")
        for name, value in report.settings.items():
            print(f"  {name}: {value}")
        for section in sections:
            section(server, report)
    busy = bool(report.rounds) and report.busy_elsewhere() > QUIET_CORES
    if busy:
        report.notes.append(
            f"other programs kept {report.busy_elsewhere():.1f} of {os.cpu_count()} cores busy: "
            "do not quote these rates"
        )
    for note in report.notes:
        print(f"  ! {note}")
    if report.targets:
        report.print_targets(busy=busy)
    print(f"\n  {time.monotonic() - started_at:.0f} s in all, load average now {os.getloadavg()[0]:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
