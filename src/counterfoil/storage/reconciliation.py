"""What was approved and what was redeemed, read for comparing them: in pages, so that no statement runs for long."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from counterfoil.domain.reconciliation import Approved, Redeemed
from counterfoil.storage import statements
from counterfoil.storage.database import Tx

_SQL = statements.load("reconciliation.sql")
ROWS_PER_STATEMENT: Final = 5_000
_BEFORE_ALL: Final = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


async def fetch_time(tx: Tx, org_id: int) -> datetime:
    """The database's clock."""
    now: datetime = await tx.fetchval(_SQL["fetch_time"], org_id)
    return now


async def list_approved(tx: Tx, org_id: int, host_id: str, since: datetime, until: datetime) -> list[Approved]:
    """Approved redemptions that were decided before `until` and not ended before `since`."""
    found: list[Approved] = []
    after = _BEFORE_ALL
    while rows := await tx.fetch(
        _SQL["list_approved"], org_id, host_id, since, until, *after, ROWS_PER_STATEMENT
    ):  # fmt: skip
        found.extend(
            Approved(
                request_id=str(row["request_id"]),
                reference=row["external_reference"] or f"CF-{row['request_id']}",
                redemption_id=row["redemption_id"],
                points=row["points"],
                member=_member(row) | {row["identifier_kind"]: row["identifier_value"]},
                at=row["at"],
                settled=row["settled"],
            )
            for row in rows
        )
        after = rows[-1]["started_at"], rows[-1]["request_id"]
    return found


async def list_redeemed(tx: Tx, org_id: int, since: datetime, until: datetime) -> list[Redeemed]:
    """Redemptions on the built-in ledger."""
    found: list[Redeemed] = []
    after = ""
    while rows := await tx.fetch(_SQL["list_redeemed"], org_id, since, until, after, ROWS_PER_STATEMENT):
        found.extend(
            Redeemed(
                reference=row["external_reference"] or "",
                redemption_id=row["redemption_id"],
                points=row["points"],
                member=_member(row),
                at=row["redeemed_at"],
                place=f"redemption {row['redemption_id']}",
            )
            for row in rows
        )
        after = rows[-1]["redemption_id"]
    return found


def _member(row: Any) -> dict[str, str]:
    if row["member_id"] is None:
        return {}
    return {
        "customer_id": str(row["member_id"]),
        "mobile": row["mobile"],
        "email": row["email"],
        "external_id": row["external_id"],
    }
