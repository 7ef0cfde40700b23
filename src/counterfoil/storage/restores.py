"""Whether this is still the database that the service has worked with (design.md §7)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from counterfoil.storage import statements
from counterfoil.storage.database import Tx

_SQL = statements.load("restores.sql")


class Identity(Struct, frozen=True):
    """What the database is, and what it was when the service marked it."""

    system_identifier: str
    timeline: str
    marked_system: str | None
    marked_timeline: str | None
    now: datetime

    @property
    def why_paused(self) -> str | None:
        """Why nothing may be executed; None while the database is the one that was marked."""
        if self.marked_system is None or (self.system_identifier, self.timeline) == (
            self.marked_system,
            self.marked_timeline,
        ):
            return None
        what = "another server" if self.system_identifier != self.marked_system else "a restored or promoted one"
        return (
            f"paused after a restore: the database is {what}, and what was executed since its backup is not known to "
            "it. Run `counterfoil resume --after-restore`"
        )


async def find_identity(tx: Tx) -> Identity:
    """Ask the server what it is."""
    row = await tx.fetchrow(_SQL["find_identity"])
    if row is None:
        raise AssertionError("a server has an identity (this is a bug)")
    return Identity(**dict(row))


async def why_paused(tx: Tx) -> str | None:
    """Why nothing may be executed now; a database that was never marked is marked."""
    identity = await find_identity(tx)
    if identity.marked_system is None:
        await tx.execute(_SQL["insert_mark"], identity.system_identifier, identity.timeline)
    return identity.why_paused


async def mark(tx: Tx, identity: Identity) -> None:
    """From now on this is the database that the service works with."""
    await tx.execute(_SQL["update_mark"], identity.system_identifier, identity.timeline)


async def list_approved(tx: Tx, org_id: int, limit: int) -> Sequence[UUID]:
    """Requests of the organisation that wait for their call or are in flight."""
    return [row["request_id"] for row in await tx.fetch(_SQL["list_approved"], org_id, limit)]
