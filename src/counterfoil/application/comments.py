"""The verb on comments, over a list of commands in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from counterfoil.application.requests import Stale, add_refused, is_current
from counterfoil.domain import comments as rules
from counterfoil.domain.comments import AddComment, Comment
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import NotPermitted, Refusal
from counterfoil.domain.seals import make_event
from counterfoil.storage import comments
from counterfoil.storage.changes import Changes, write
from counterfoil.storage.database import Tx

CommentOutcome = Comment | Stale | Refusal


async def add_comments(tx: Tx, organisation: Organisation, commands: Sequence[AddComment]) -> list[CommentOutcome]:
    """Each command adds one comment for good; its text is in the audit trail as a commitment only."""
    loaded = await comments.read_for_comments(tx, organisation.org_id, commands)
    changes = Changes()
    outcomes: list[CommentOutcome] = []
    for command, file in zip(commands, loaded.files, strict=True):
        if file.written is not None:
            outcomes.append(file.written)
            continue
        if not is_current(organisation, command.actor, loaded.organisation_version):
            outcomes.append(Stale(loaded.organisation_version))
            continue
        result = rules.comment(organisation, file.request, command, loaded.now)
        outcomes.append(result)
        if isinstance(result, NotPermitted):
            add_refused(changes, command.request_id, command.comment_id, "comment_refused", command.actor,
                        command.salt, loaded.now, result)  # fmt: skip
        if isinstance(result, Refusal):
            continue
        changes.comments.append((
            result.request_id, result.comment_id, result.person_id, result.user_id, result.user_name, result.message,
            result.made_at,
        ))  # fmt: skip
        changes.add_event(
            make_event(
                result.request_id,
                result.comment_id,
                "commented",
                result.made_at,
                command.salt,
                {**command.actor.origin, "org": organisation.org_id},
                {"author": f"{result.person_id} {result.user_name}", "message": result.message},
            )
        )
    await write(tx, organisation.org_id, changes)
    return outcomes
