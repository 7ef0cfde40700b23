"""Sealed values wherever they are stored: read to be sealed anew, and written back in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from counterfoil.domain.callers import SECRET_ALGORITHM
from counterfoil.storage import statements
from counterfoil.storage.database import Tx

_SQL = statements.load("sealed_values.sql")
_ADMINISTRATION = statements.load("administration.sql")
PROPOSALS_PER_STATEMENT: Final = 20  # one may be as large as a body may be


class Headers(Struct, frozen=True):
    """The sealed headers of a request, packed."""

    request_id: UUID
    sealed: bytes


class Entry(Struct, frozen=True):
    """A sealed value of the organisation itself, in hex: `name` is a host's id or an issuer."""

    of_host: bool
    name: str
    sealed: str


class Proposed(Struct, frozen=True):
    """A sealed value that an undecided proposal carries, in hex."""

    request_id: UUID
    of_host: bool
    name: str
    sealed: str


async def list_organisations(tx: Tx) -> list[int]:
    """Every organisation that there is."""
    return [row["org_id"] for row in await tx.fetch(_SQL["organisations_with_sealed_values"])]


async def list_headers(tx: Tx, org_id: int, after: UUID, limit: int) -> list[Headers]:
    """The next requests behind this id."""
    rows = await tx.fetch(_SQL["list_headers"], org_id, after, limit)
    return [Headers(row["request_id"], row["sealed_headers"]) for row in rows]


async def write_headers(tx: Tx, org_id: int, anew: Sequence[tuple[Headers, bytes]]) -> None:
    """Put other sealed forms in place of what was read."""
    rows = [(before.request_id, before.sealed, after) for before, after in anew]
    await tx.execute(_SQL["write_headers"], org_id, *zip(*rows, strict=True))


async def lock_entries(tx: Tx, org_id: int) -> tuple[list[Entry], list[Proposed]]:
    """Lock the organisation against other administration, and read what it has sealed."""
    await tx.execute(_ADMINISTRATION["lock_organisation"], org_id)
    hosts = [
        Entry(of_host=True, name=row["host_id"], sealed=row["credential_sealed"])
        for row in await tx.fetch(_SQL["list_hosts"], org_id)
    ]
    issuers = [
        Entry(of_host=False, name=row["issuer"], sealed=row["keys"])
        for row in await tx.fetch(_SQL["list_issuers"], org_id)
    ]
    proposed: list[Proposed] = []
    after = UUID(int=0)
    while rows := await tx.fetch(_SQL["list_proposals"], org_id, after, PROPOSALS_PER_STATEMENT):
        after = rows[-1]["request_id"]
        proposed += (each for row in rows for each in _carried(row["request_id"], row["payload"]))
    return hosts + issuers, proposed


def _carried(request_id: UUID, payload: bytes) -> Iterator[Proposed]:
    # Not as a Difference: one that another version of the program has made may be approved by that version.
    document = msgspec.json.decode(payload, type=dict[str, Any])
    for section, of_host in (("hosts", True), ("issuers", False)):
        for change in document.get(section) or ():
            for record in (change.get("before"), change.get("after")):
                if record is None or (not of_host and record.get("algorithm") != SECRET_ALGORITHM):
                    continue
                sealed = record.get("credential_sealed" if of_host else "keys")
                if sealed:
                    yield Proposed(request_id, of_host, record["host_id" if of_host else "issuer"], sealed)


async def write_entries(tx: Tx, org_id: int, entries: Sequence[Entry]) -> tuple[int, datetime]:
    """Put other sealed forms in their place; the organisation's new version, and the time."""
    for of_host, statement in ((True, "write_hosts"), (False, "write_issuers")):
        rows = [(each.name, each.sealed) for each in entries if each.of_host is of_host]
        if rows:
            await tx.execute(_SQL[statement], org_id, *zip(*rows, strict=True))
    row = await tx.fetchrow(_SQL["next_version"], org_id)
    if row is None:
        raise AssertionError("a locked organisation is there (this is a bug)")
    return row["version"], row["now"]
