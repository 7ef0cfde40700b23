"""Comments on requests: read for a batch, listed by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct

from counterfoil.domain.comments import AddComment, Comment, Commented
from counterfoil.storage import statements
from counterfoil.storage.accounts import Loaded
from counterfoil.storage.database import Tx

_SQL = statements.load("comments.sql")


class CommentFile(Struct, frozen=True):
    """What the database knows about one command: its request, and the comment if it was written before."""

    request: Commented | None
    written: Comment | None


class CommentPage(Struct, frozen=True):
    """Some comments; `unit_id` is where the request was made, None where there is no such one."""

    organisation_version: int
    unit_id: int | None
    comments: Sequence[Comment]


async def read_for_comments(tx: Tx, org_id: int, commands: Sequence[AddComment]) -> Loaded[CommentFile]:
    """Each command's request, and its comment if an earlier run of the batch has written it."""
    named = [(each.comment_id, each.request_id) for each in commands]
    rows = await tx.fetch(_SQL["read_for_comments"], org_id, *zip(*named, strict=True))
    by_id = {row["comment_id"]: row for row in rows}
    files = [
        CommentFile(
            None
            if row["request_type"] is None
            else Commented(row["request_type"], row["unit_id"], row["maker_person_id"]),
            None if row["request_id"] is None else _comment(row),
        )
        for row in (by_id[each.comment_id] for each in commands)
    ]
    return Loaded(max(row["now"] for row in rows), rows[0]["organisation_version"], files)


async def list_comments(tx: Tx, org_id: int, request_id: UUID, after: UUID | None, limit: int) -> CommentPage | None:
    """A page of a request's comments, oldest first; None for an unknown organisation."""
    rows = await tx.fetch(_SQL["list_comments"], org_id, request_id, after, limit)
    if not rows:
        return None
    found = [_comment(row) for row in rows if row["comment_id"] is not None]
    return CommentPage(rows[0]["organisation_version"], rows[0]["unit_id"], found)


def _comment(row: Any) -> Comment:
    return Comment(
        row["comment_id"], row["request_id"], row["person_id"], row["user_id"], row["user_name"], row["message"],
        row["made_at"],
    )  # fmt: skip
