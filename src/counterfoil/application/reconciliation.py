"""Reconciling a host: its redemptions from the ledger, an export or a sandbox, beside our approved requests."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from msgspec import Struct

from counterfoil.application import identifiers, ids
from counterfoil.domain.organisations import Host, Organisation
from counterfoil.domain.reconciliation import Reconciliation, Redeemed, reconcile
from counterfoil.domain.seals import make_event
from counterfoil.storage import administration, organisations, reconciliation
from counterfoil.storage.database import Tx

EVENT_KIND: Final = "reconciled"
# Clocks differ, and an answer may be late: so far beyond the period a partner is looked for.
MARGIN: Final = timedelta(days=2)
POINTS_MAX: Final = Decimal(10**12)

# How exports call what we need; the first that is there counts.
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "reference": ("external_reference_number", "external_reference", "reference"),
    "redemption_id": ("redemption_id",),
    "points": ("points_redeemed", "points"),
    "at": ("redeemed_time", "redeemed_at_time", "redemption_time", "time"),
    "mobile": ("mobile",),
    "email": ("email",),
    "external_id": ("external_id",),
    "customer_id": ("user_id", "customer_id"),
}


# Reads what a host has redeemed, in the terms of the organisation.
Reader: TypeAlias = Callable[[Organisation], Iterable[Redeemed]]


class CannotReconcile(Exception):
    """The question cannot be answered; the message says what to put right."""


class Period(Struct, frozen=True):
    """Days, both inclusive, in the organisation's time zone."""

    first: date
    last: date

    def bounds(self, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """The first moment of the period, and the first after it."""
        if self.last < self.first:
            raise CannotReconcile(f"the period ends on {self.last}, before it begins on {self.first}: turn them round")
        return (
            datetime.combine(self.first, time.min, zone),
            datetime.combine(self.last + timedelta(days=1), time.min, zone),
        )


async def reconcile_host(
    url: str, org_id: int, host_id: str, period: Period, read: Reader | None, *, operator: str
) -> Reconciliation:
    """Compare and leave an audit event that tells the result; raises CannotReconcile.

    `read` tells what the host has redeemed; None reads the built-in ledger.
    """
    async with administration.transaction(url, keep=True) as tx:
        organisation = await organisations.find_organisation(tx, org_id)
        if organisation is None:
            raise CannotReconcile(f"there is no organisation {org_id}")
        host = _host(organisation, host_id)
        since, until = period.bounds(ZoneInfo(organisation.time_zone))
        reach = since - MARGIN, until + MARGIN
        if read is not None:
            theirs = list(read(organisation))
        elif host.target == "ledger":
            theirs = await reconciliation.list_redeemed(tx, org_id, *reach)
        else:
            raise CannotReconcile(f"the redemptions of {host_id} are not here: name an export of them with --csv FILE")
        ours = await reconciliation.list_approved(tx, org_id, host_id, *reach)
        found = reconcile(ours, theirs, since=since, until=until)
        await _record(tx, organisation, host_id, period, found, operator)
    return found


def _host(organisation: Organisation, host_id: str) -> Host:
    for host in organisation.hosts:
        if host.host_id == host_id:
            return host
    known = ", ".join(sorted(host.host_id for host in organisation.hosts)) or "none"
    raise CannotReconcile(f"organisation {organisation.org_id} has no host {host_id}; it has {known}")


async def _record(
    tx: Tx, organisation: Organisation, host_id: str, period: Period, found: Reconciliation, operator: str
) -> None:
    facts = {
        "organisation": organisation.org_id,
        "host": host_id,
        "first": period.first.isoformat(),
        "last": period.last.isoformat(),
        "pairs": found.pairs,
        "findings": len(found.findings),
    }
    now = await reconciliation.fetch_time(tx, organisation.org_id)
    event = make_event(ids.uuid7(), ids.uuid7(), EVENT_KIND, now, ids.salt(), facts, {"operator": operator})
    await administration.append_events(tx, organisation.org_id, [event])


def read_sandbox(rows: Iterable[Mapping[str, str]], organisation: Organisation) -> Iterator[Redeemed]:
    """The redemptions of a sandbox, told with the columns of an export; raises CannotReconcile."""
    for number, row in enumerate(rows, start=1):
        values = {name: next((row[each] for each in known if each in row), "") for name, known in _COLUMNS.items()}
        yield _redeemed(values, organisation, f"redemption {values['redemption_id'] or number}")


def read_export(lines: Iterable[str], organisation: Organisation) -> Iterator[Redeemed]:
    """The redemptions of a CSV export with a head line; raises CannotReconcile with the line and its field."""
    reader = csv.DictReader(lines, strict=True)
    try:
        heads = {(head or "").strip().lower(): head for head in reader.fieldnames or ()}
        columns = {name: next((heads[each] for each in known if each in heads), None)
                   for name, known in _COLUMNS.items()}  # fmt: skip
        for name in ("points", "at"):
            if columns[name] is None:
                raise CannotReconcile(f"line 1: the export needs a column {_COLUMNS[name][0]}")
        if columns["reference"] is None and columns["redemption_id"] is None:
            raise CannotReconcile("line 1: the export needs a column external_reference_number or redemption_id")
        for row in reader:
            values = {name: (row.get(head) or "").strip() if head else "" for name, head in columns.items()}
            yield _redeemed(values, organisation, f"line {reader.line_num}")
    except (csv.Error, UnicodeDecodeError) as error:
        raise CannotReconcile(f"line {reader.line_num}: this is no CSV in UTF-8: {error}") from None


def _redeemed(values: Mapping[str, str], organisation: Organisation, place: str) -> Redeemed:
    try:
        points = Decimal(values["points"])
    except InvalidOperation:
        points = Decimal("NaN")
    if not points.is_finite() or not 0 <= points < POINTS_MAX or points * 1000 % 1:
        raise CannotReconcile(f"{place}: the points {values['points']!r} are no number with at most three decimals")
    try:
        at = datetime.fromisoformat(values["at"])
    except ValueError:
        raise CannotReconcile(f"{place}: the time {values['at']!r} is not written like 2026-11-23 14:30:00") from None
    member = {
        kind: identifiers.normalise(kind, values[kind], organisation.country_code)
        for kind in ("mobile", "email", "external_id")
    }
    return Redeemed(
        reference=values["reference"],
        redemption_id=values["redemption_id"],
        points=int(points * 1000),
        member={**member, "customer_id": values["customer_id"]},
        at=at if at.tzinfo else at.replace(tzinfo=ZoneInfo(organisation.wire_time_zone)),
        place=place,
    )
