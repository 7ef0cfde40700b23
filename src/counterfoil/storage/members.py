"""Members: balances to read, accounts to lock for a direct redemption."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct

from counterfoil.domain.points import MemberAccount
from counterfoil.domain.redemptions import Redeem
from counterfoil.storage import statements
from counterfoil.storage.accounts import Loaded, account_of, decode_account, lock_and_read
from counterfoil.storage.database import Tx

_SQL = statements.load("members.sql")


class Balance(Struct, frozen=True):
    """A member's account as it is read, without a lock; None for an unknown member."""

    organisation_version: int
    now: datetime
    account: MemberAccount | None


class Status(Struct, frozen=True):
    """A member's status label and the request that set it; `member_id` None for an unknown member."""

    organisation_version: int
    member_id: int | None
    label: str | None
    request_id: UUID | None
    changed_at: datetime | None


class RedemptionFile(Struct, frozen=True):
    """What the database knows about one direct redemption, under lock.

    `counted` is the latest day and points of a calling system with a daily cap.
    """

    account: MemberAccount | None
    reference_used: bool
    redemption_id: str
    written: bytes | None
    counted: tuple[date, int] | None


async def find_balance(tx: Tx, org_id: int, kind: str, value: str) -> Balance | None:
    """A member's points by id (kind "id") or identifier; None for an unknown organisation."""
    member_id = int(value) if kind == "id" else None
    row = await tx.fetchrow(_SQL["find_balance"], org_id, kind, value, member_id)
    if row is None:
        return None
    account = None if row["document"] is None else decode_account(row["document"])
    return Balance(row["organisation_version"], row["now"], account)


async def find_status(tx: Tx, org_id: int, member_id: int) -> Status | None:
    """A member's status; None for an unknown organisation."""
    row = await tx.fetchrow(_SQL["find_status"], org_id, member_id)
    return None if row is None else Status(*row)


async def lock_for_redemption(tx: Tx, org_id: int, commands: Sequence[Redeem]) -> Loaded[RedemptionFile]:
    """Lock the members that the commands name and read each command's file."""
    arguments = zip(
        *(
            (
                each.redeem_id,
                each.asked.identifier_kind,
                each.asked.identifier_value,
                each.asked.external_reference,
                *each.redemption_ids,
                each.actor.login,
            )
            for each in commands
        ),
        strict=True,
    )
    rows = await lock_and_read(tx, _SQL["lock_for_redemption"], org_id, *arguments)
    by_id = {row["redeem_id"]: row for row in rows}
    accounts: dict[int, MemberAccount] = {}
    files = [
        RedemptionFile(
            account_of(row, row["member_id"], accounts),
            row["reference_used"],
            row["redemption_id"],
            row["written"],
            None if row["counted_points"] is None else (row["counted_day"], row["counted_points"]),
        )
        for row in (by_id[each.redeem_id] for each in commands)
    ]
    return Loaded(max(row["now"] for row in rows), rows[0]["organisation_version"], files)
