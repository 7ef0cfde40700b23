"""`counterfoil reconcile`: what was approved here beside what a host has redeemed."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import ExitStack
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter
from rich.table import Table

from counterfoil.application.reconciliation import (
    CannotReconcile,
    Period,
    Reader,
    read_export,
    read_sandbox,
    reconcile_host,
)
from counterfoil.cli import output, remote
from counterfoil.cli.org import operator_name
from counterfoil.cli.remote import LOOPBACK
from counterfoil.cli.serve import own_database
from counterfoil.domain.payloads import points_text
from counterfoil.domain.reconciliation import MEANING, Approved, Finding, Reconciliation, Redeemed
from counterfoil.settings import load_settings

SOMETHING_DIFFERS: Final = 2


def reconcile(
    host: str,
    *,
    org: int,
    since: Annotated[date, Parameter(name="--from")],
    until: Annotated[date, Parameter(name="--to")],
    csv: Path | None = None,
    sandbox: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Compare the redemptions of a host with the approved requests, and tell what does not agree.

    Ends with 0 when all agrees, with 2 when something does not. The result is kept in the audit trail.

    Parameters
    ----------
    host
        The name of the entry in the organisation's host table.
    org
        The number of the organisation.
    since
        The first day of the period, in the organisation's time zone.
    until
        The last day of the period.
    csv
        An export of the host's redemptions. Without it and `sandbox` the built-in ledger is read.
    sandbox
        The address of a running `counterfoil sandbox`, whose redemptions are read instead.
    as_json
        Print one JSON object instead of a table.
    """
    settings = load_settings(os.environ)
    period = Period(since, until)
    with ExitStack() as stack:
        read = _reader(stack, csv, sandbox)
        url = settings.database_url or stack.enter_context(own_database(settings))
        found = asyncio.run(reconcile_host(url, org, host, period, read, operator=operator_name()))
    if as_json:
        print(json.dumps(_as_json(host, period, found)))  # noqa: T201 - the command's own output
    else:
        _tell(host, period, found)
    return SOMETHING_DIFFERS if found.findings else 0


def _reader(stack: ExitStack, csv: Path | None, sandbox: str | None) -> Reader | None:
    """What reads the host's redemptions; None for the built-in ledger."""
    if csv and sandbox:
        raise CannotReconcile("name an export with --csv or a sandbox with --sandbox, not both")
    if csv:
        try:
            return partial(read_export, stack.enter_context(csv.open(encoding="utf-8-sig", newline="")))
        except OSError as error:
            raise CannotReconcile(f"{csv}: cannot be read: {error.strerror}") from None
    return partial(read_sandbox, _redemptions_of(sandbox)) if sandbox else None


def _redemptions_of(sandbox: str) -> list[dict[str, str]]:
    try:
        parts = urlsplit(sandbox)
        is_here = parts.scheme == "http" and parts.hostname in LOOPBACK and (parts.port or 80) > 0
    except ValueError:
        is_here = False
    if not is_here:
        raise CannotReconcile(f"{sandbox} is no sandbox: they are on this machine only, such as http://127.0.0.1:8641")
    told = remote.send(sandbox, "GET", "/sandbox/redemptions", None, {})
    try:
        return msgspec.convert(told["data"], list[dict[str, str]])
    except (KeyError, msgspec.ValidationError):
        raise CannotReconcile(f"{sandbox} does not answer as a sandbox of this version: check the address") from None


def _as_json(host: str, period: Period, found: Reconciliation) -> dict[str, Any]:
    return {
        "host": host,
        "from": period.first.isoformat(),
        "to": period.last.isoformat(),
        "pairs": found.pairs,
        "membersNotComparable": found.unlike,
        "findings": [_finding(each) for each in found.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    here, there = finding.here, finding.there
    return {
        "kind": finding.kind,
        "meaning": MEANING[finding.kind],
        "here": None if here is None else {"requestId": here.request_id, **_side(here)},
        "there": None if there is None else {"place": there.place, **_side(there)},
    }


def _side(side: Approved | Redeemed) -> dict[str, Any]:
    return {
        "reference": side.reference,
        "redemptionId": side.redemption_id,
        "points": points_text(side.points),
        "member": {kind: value for kind, value in side.member.items() if value},
        "at": side.at.isoformat(),
    }


def _tell(host: str, period: Period, found: Reconciliation) -> None:
    console = output.console()
    if found.findings:
        table = Table("what", "request here", "there", "reference", "points here", "points there", box=None)
        for each in found.findings:
            here, there = each.here, each.there
            table.add_row(
                each.kind,
                here.request_id if here else "",
                there.place if there else "",
                (here.reference if here else "") or (there.reference if there else ""),
                points_text(here.points) if here else "",
                points_text(there.points) if there else "",
            )
        console.print(table)
        for kind in sorted({each.kind for each in found.findings}):
            console.print(f"{kind}: {MEANING[kind]}")
    told = f"{host}, {period.first} to {period.last}: {found.pairs:,} pairs, {len(found.findings):,} findings"
    if found.unlike:
        told += f"; of {found.unlike:,} pairs the members could not be compared: they share no kind of identifier"
    console.print(told)
