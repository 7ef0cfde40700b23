"""Access groups and trusted issuers, written as an organisation file changes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from counterfoil.domain.callers import AccessGroup, TrustedIssuer
from counterfoil.domain.organisation_changes import Change
from counterfoil.storage import statements
from counterfoil.storage.database import Tx

_SQL: Final = statements.load("callers.sql")


async def write_access_groups(tx: Tx, org_id: int, changes: Sequence[Change[AccessGroup]]) -> None:
    """The groups that come or differ; before the credentials that name them."""
    groups = [change.after for change in changes if change.after]
    if groups:
        names, resources = [each.name for each in groups], [",".join(each.resources) for each in groups]
        await tx.execute(_SQL["write_access_groups"], org_id, names, resources)


async def delete_access_groups(tx: Tx, org_id: int, changes: Sequence[Change[AccessGroup]]) -> None:
    """The groups that go; after the credentials that named them."""
    gone = [change.before.name for change in changes if change.before and not change.after]
    if gone:
        await tx.execute(_SQL["delete_access_groups"], org_id, gone)


async def write_issuers(tx: Tx, org_id: int, changes: Sequence[Change[TrustedIssuer]]) -> None:
    """The issuers that go, come or differ."""
    gone = [change.before.issuer for change in changes if change.before and not change.after]
    if gone:
        await tx.execute(_SQL["delete_issuers"], org_id, gone)
    rows = [
        (each.issuer, each.algorithm, each.audience, each.user_id_claim, each.user_name_claim, each.organisation_claim,
         each.keys)
        for change in changes
        if (each := change.after)
    ]  # fmt: skip
    if rows:
        await tx.execute(_SQL["write_issuers"], org_id, *zip(*rows, strict=True))
