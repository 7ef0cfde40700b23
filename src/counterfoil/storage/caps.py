"""The counters of caps: locked for a batch, after its requests and before its members."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from counterfoil.domain.caps import CapBook, TallyAsked
from counterfoil.domain.rulings import Pairs
from counterfoil.storage import statements
from counterfoil.storage.database import Tx

_SQL = statements.load("caps.sql")


async def lock_for_submission(tx: Tx, org_id: int, asked: Sequence[TallyAsked], zone: str) -> CapBook:
    """Lock the counters that new requests may be counted in; one round trip, none when nothing is asked."""
    book = CapBook()
    if not asked:
        return book
    columns = zip(
        *((each.request_id, each.cap, each.per, each.subject, each.kind, each.subject) for each in asked), strict=True
    )
    for row in await tx.fetch(_SQL["lock_for_submission"], org_id, *columns, zone):
        book.counted(row["cap"], row["subject"], row["day"], row["points"])
        book.offer(row["request_id"], row["cap"], "", row["subject"], row["day"])
    return book


async def read_pairs(tx: Tx, org_id: int, caps: Sequence[str], subjects: Sequence[str], zone: str) -> Pairs:
    """The points that are counted today, for views."""
    rows = await tx.fetch(_SQL["read_pairs"], org_id, caps, subjects, zone)
    return {(row["cap"], row["subject"]): row["points"] for row in rows}


async def lock_for_decision(
    tx: Tx, org_id: int, request_ids: Sequence[UUID], approvals: Sequence[tuple[UUID, str]], zone: str
) -> CapBook:
    """Lock requests, then the counters that they are counted in and those that their approvals may be counted in.

    `approvals` are (request_id, checker). Whoever ends requests without effect locks them here first.
    """
    book = CapBook()
    columns = tuple(zip(*approvals, strict=True)) or ((), ())
    for row in await tx.fetch(_SQL["lock_for_decision"], org_id, request_ids, *columns, zone):
        book.counted(row["cap"], row["subject"], row["day"], row["points"])
        if row["checker"] is None:
            book.used(row["request_id"], row["cap"], row["subject"], row["day"], row["used"])
        else:
            book.offer(row["request_id"], row["cap"], row["checker"], row["subject"], row["day"])
    return book
