"""One request with everything that a full view is made from."""

from __future__ import annotations

from uuid import UUID

import msgspec

from counterfoil.domain.points import Hold
from counterfoil.domain.request_views import RequestFile
from counterfoil.storage import statements
from counterfoil.storage.accounts import decode_account
from counterfoil.storage.database import Tx
from counterfoil.storage.requests import request_from_row

_SQL = statements.load("request_views.sql")
_hold = msgspec.json.Decoder(Hold)


async def fetch_file(tx: Tx, org_id: int, request_id: UUID) -> RequestFile | None:
    """The file of a request (`request` None when there is none); None for an unknown organisation."""
    row = await tx.fetchrow(_SQL["fetch_file"], org_id, request_id)
    if row is None:
        return None
    if row["request_id"] is None:
        return RequestFile(row["organisation_version"], row["now"], None)
    return RequestFile(
        row["organisation_version"],
        row["now"],
        request_from_row(row),
        None if row["account"] is None else decode_account(row["account"]),
        None if row["hold"] is None else _hold.decode(row["hold"]),
        row["reference_used"],
        row["same_reference"] or (),
    )
