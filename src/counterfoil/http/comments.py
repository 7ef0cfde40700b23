"""Comments on a request, over our own API."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from counterfoil.application import ids, reads
from counterfoil.application.requests import Stale
from counterfoil.domain.access import Actor
from counterfoil.domain.comments import AddComment, Comment, masked
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.reach import may_read
from counterfoil.domain.refusals import Refusal
from counterfoil.http import own, wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.request_reads import no_such_request, request_id_of
from counterfoil.http.routing import Answer, Call, Context


class CommentBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be said; secrets in it are masked before it is stored."""

    message: own.Text


class ShownComment(msgspec.Struct):
    """A comment as it was made; it never changes."""

    commentId: str
    personId: str
    userName: str
    message: str
    madeAt: str


class CommentAnswer(msgspec.Struct):
    """The envelope around one comment."""

    data: ShownComment
    errors: list[str]
    warnings: list[str]


class CommentList(msgspec.Struct):
    """A page of comments, oldest first."""

    data: list[ShownComment]
    page: own.Page
    errors: list[str]
    warnings: list[str]


def _shown(comment: Comment) -> ShownComment:
    return ShownComment(
        str(comment.comment_id), comment.person_id, comment.user_name, comment.message, wire.iso(comment.made_at)
    )


async def add(context: Context, call: Call) -> Answer:
    """POST /counterfoil/v1/requests/{requestId}/comments."""
    request_id, comment_id = request_id_of(call), ids.uuid7()

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        # What is masked may be longer than what was sent, never so much that the column cannot hold it.
        message = masked(own.read_body(call, CommentBody).message)[:2000]
        command = AddComment(comment_id, actor, request_id, message, ids.salt())
        outcome = await context.comments.submit(organisation.org_id, command)
        match outcome:
            case Comment():
                return Answer(200, wire.encode(CommentAnswer(_shown(outcome), [], [])))
            case Refusal():
                raise outcome
            case Stale():
                return outcome

    return await answer_fresh(context, call, attempt)


async def list_page(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/requests/{requestId}/comments."""
    request_id = request_id_of(call)
    limit, after = own.limit_of(call), own.after_of(call)

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        page = await reads.list_comments(context.pool, organisation.org_id, request_id, after, limit)
        if page is None or page.organisation_version != organisation.version:
            return Stale(page.organisation_version if page else 0)
        if page.unit_id is None or not may_read(organisation, actor, page.unit_id, datetime.now(UTC)):
            raise no_such_request()
        onward = own.next_of([each.comment_id for each in page.comments], limit)
        return Answer(200, wire.encode(CommentList([_shown(each) for each in page.comments], onward, [], [])))

    return await answer_fresh(context, call, attempt)
