"""Our own API about members: the status label, which the contract can change and cannot read."""

from __future__ import annotations

import msgspec

from counterfoil.application import reads
from counterfoil.application.requests import Stale
from counterfoil.domain.access import Actor
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import ID_MAX
from counterfoil.domain.refusals import MemberNotFound
from counterfoil.http import wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.routing import Answer, Call, Context


class MemberStatus(msgspec.Struct):
    """A member's status label, the request that set it and when; null where no request has."""

    memberId: str
    label: str | None
    requestId: str | None
    changedAt: str | None


class MemberStatusAnswer(msgspec.Struct):
    """The envelope around one status."""

    data: MemberStatus
    errors: list[str]
    warnings: list[str]


async def status(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/members/{member_id}/status."""
    text = call.path_params["member_id"]
    member_id = int(text) if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= ID_MAX else 0

    async def attempt(organisation: Organisation, _actor: Actor) -> Answer | Stale:
        found = await reads.find_status(context.pool, organisation.org_id, member_id)
        if found is None or found.organisation_version != organisation.version:
            return Stale(found.organisation_version if found else 0)
        if found.member_id is None:
            raise MemberNotFound("no member of this organisation has that number", "member_id")
        shown = MemberStatus(
            memberId=str(found.member_id),
            label=found.label,
            requestId=None if found.request_id is None else str(found.request_id),
            changedAt=wire.iso_or_none(found.changed_at),
        )
        return Answer(200, wire.encode(MemberStatusAnswer(shown, [], [])))

    return await answer_fresh(context, call, attempt)
