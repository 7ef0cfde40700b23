"""The life of a request over our own API: decided, sent back, withdrawn, resubmitted with the difference shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType
from msgspec.structs import replace

from counterfoil.application import ids, reads
from counterfoil.application.requests import KeyConflict, Replayed, Stale
from counterfoil.domain import payload_types, resubmissions
from counterfoil.domain.access import Actor
from counterfoil.domain.comments import MESSAGE_MAX, masked
from counterfoil.domain.endings import Withdraw
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import TASK, WITHHELD
from counterfoil.domain.reach import may_read
from counterfoil.domain.refusals import Refusal
from counterfoil.domain.request_pages import StoredRequest
from counterfoil.domain.requests import Decide, Request, State
from counterfoil.http import own, request_workflow, wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.request_reads import no_such_request, request_id_of
from counterfoil.http.request_workflow import told
from counterfoil.http.routing import Answer, Call, Context

_VERDICTS = {"approve": "approved", "reject": "rejected"}
OptionalText = Annotated[str, Meta(max_length=MESSAGE_MAX)]


class DecisionBody(msgspec.Struct, forbid_unknown_fields=True):
    """A checker's decision. A rejection needs one of the organisation's reason codes, if it has declared any."""

    verdict: Literal["approve", "reject"]
    comment: OptionalText = ""
    reasonCode: own.Id | None = None
    onBehalfOf: own.Id | None = None


class SendBackBody(msgspec.Struct, forbid_unknown_fields=True):
    """What the maker should change."""

    comment: own.Text
    reasonCode: own.Id | None = None
    onBehalfOf: own.Id | None = None


class WithdrawBody(msgspec.Struct, forbid_unknown_fields=True):
    """Why the maker takes it back."""

    comment: OptionalText = ""


class FieldDifference(msgspec.Struct, omit_defaults=True):
    """A field that is another one than before; `before` or `after` is missing where there was none."""

    path: str
    before: Raw | UnsetType = UNSET
    after: Raw | UnsetType = UNSET


class Differences(msgspec.Struct):
    """What a request has otherwise than the one that it is another try of."""

    requestId: str
    resubmissionOf: str | None
    resubmittedAs: str | None
    differences: list[FieldDifference]


class DifferencesAnswer(msgspec.Struct):
    """The envelope around the differences."""

    data: Differences
    errors: list[str]
    warnings: list[str]


class Resubmitted(msgspec.Struct):
    """The new request, and what it has otherwise."""

    request: own.RequestLife
    differences: list[FieldDifference]


class ResubmittedAnswer(msgspec.Struct):
    """The envelope around a resubmission."""

    data: Resubmitted
    errors: list[str]
    warnings: list[str]


async def decide(context: Context, call: Call) -> Answer:
    """POST /counterfoil/v1/requests/{requestId}/decisions."""
    return await _give_voice(context, call, DecisionBody)


async def send_back(context: Context, call: Call) -> Answer:
    """POST /counterfoil/v1/requests/{requestId}/send-back: ends it as rejected, and asks for another try."""
    return await _give_voice(context, call, SendBackBody)


async def _give_voice(context: Context, call: Call, kind: type[DecisionBody | SendBackBody]) -> Answer:
    request_id, decision_id = request_id_of(call), ids.uuid7()
    redemption_ids = (ids.redemption_id(), ids.redemption_id())

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        body = own.read_body(call, kind)
        verdict = _VERDICTS[body.verdict] if isinstance(body, DecisionBody) else "rejected"
        command = Decide(
            decision_id=decision_id,
            actor=actor,
            request_id=request_id,
            request_type=None,
            verdict=verdict,
            message=masked(body.comment),
            correlation_id=call.correlation_id,
            served_by=request_workflow.SERVED_BY,
            redemption_ids=redemption_ids,
            salt=ids.salt(),
            digest_seen=request_workflow.digest_seen(call),
            on_behalf_of=body.onBehalfOf,
            reason_code=body.reasonCode,
            reason_needed=verdict == "rejected" and isinstance(body, DecisionBody),
            sent_back=isinstance(body, SendBackBody),
        )
        outcome = await request_workflow.give_voice(context, organisation, command)
        return outcome if isinstance(outcome, Stale) else own.life_answer(outcome, told(outcome))

    return await answer_fresh(context, call, attempt)


async def withdraw(context: Context, call: Call) -> Answer:
    """POST /counterfoil/v1/requests/{requestId}/withdraw."""
    request_id, withdrawal_id = request_id_of(call), ids.uuid7()

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        body = own.read_body(call, WithdrawBody)
        command = Withdraw(withdrawal_id, actor, request_id, masked(body.comment), ids.salt())
        outcome = await context.withdrawals.submit(organisation.org_id, command)
        if isinstance(outcome, Refusal):
            raise outcome
        return outcome if isinstance(outcome, Stale) else own.life_answer(outcome, told(outcome))

    return await answer_fresh(context, call, attempt)


async def resubmit(context: Context, call: Call) -> Answer:
    """POST /counterfoil/v1/requests/{requestId}/resubmit: the body is that of the contract's create call."""
    earlier_id, request_id = request_id_of(call), ids.uuid7()

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        earlier = await _stored(context, organisation, earlier_id)
        if isinstance(earlier, Stale) or earlier.request is None:
            return Stale(earlier.organisation_version)
        kind = payload_types.request_type(earlier.request.request_type)
        command, _ = await request_workflow.prepare(
            context, call, organisation, actor, kind, request_id, resubmission_of=earlier_id
        )
        outcome = await context.submissions.submit(organisation.org_id, command)
        match outcome:
            case Request() | Replayed():
                made = await request_workflow.fetch(context, organisation, outcome.request_id)
                return _resubmitted(context, organisation, earlier, made, replayed=isinstance(outcome, Replayed))
            case KeyConflict():
                stored = await request_workflow.fetch(context, organisation, outcome.request_id)
                raise request_workflow.conflict(context, organisation, command, stored)
            case Refusal():
                raise outcome
            case Stale():
                return outcome

    return await answer_fresh(context, call, attempt)


def _resubmitted(
    context: Context, organisation: Organisation, earlier: StoredRequest, made: StoredRequest, *, replayed: bool
) -> Answer:
    """The new request as it was made, whatever has become of it since."""
    if made.request is None:
        raise AssertionError("a resubmitted request exists (this is a bug)")
    request = replace(made.request, state=State.PENDING, decisions=(), decided_at=None, ended_at=None, outcome=None)
    headers = told(request) | ({"Idempotent-Replayed": "true"} if replayed else {})
    data = Resubmitted(own.life_of(request), list(_differences(context, organisation, earlier, made)))
    return Answer(200, wire.encode(ResubmittedAnswer(data, [], [])), headers)


async def differences(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/requests/{requestId}/differences: for whoever decides about another try."""
    request_id = request_id_of(call)

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        stored = await _stored(context, organisation, request_id)
        if isinstance(stored, Stale) or stored.request is None:
            return Stale(stored.organisation_version)
        earlier_id = stored.request.resubmission_of
        earlier = None if earlier_id is None else await request_workflow.fetch(context, organisation, earlier_id)
        now = datetime.now(UTC)
        for each in (stored.request, None if earlier is None else earlier.request):
            if each is not None and not may_read(organisation, actor, each.unit_id, now):
                raise no_such_request()
        found = [] if earlier is None else list(_differences(context, organisation, earlier, stored))
        data = Differences(
            str(request_id),
            None if earlier_id is None else str(earlier_id),
            None if stored.resubmitted_as is None else str(stored.resubmitted_as),
            found,
        )
        return Answer(200, wire.encode(DifferencesAnswer(data, [], [])))

    return await answer_fresh(context, call, attempt)


async def _stored(context: Context, organisation: Organisation, request_id: UUID) -> StoredRequest | Stale:
    stored = await reads.find_request(context.pool, organisation.org_id, request_id)
    if stored is None or stored.organisation_version != organisation.version:
        return Stale(stored.organisation_version if stored else 0)
    if stored.request is None:
        raise no_such_request()
    return stored


def _differences(
    context: Context, organisation: Organisation, before: StoredRequest, after: StoredRequest
) -> Iterator[FieldDifference]:
    """Compared with their secrets, shown without them."""
    one, other = (json.loads(each.entity_info) for each in (before, after))
    for path, old, new in resubmissions.differences(one, other, "entityInfo"):
        yield _difference(path, old, new)
    opened, reopened = (_opened(context, organisation, each) for each in (before, after))
    hidden = [name for each in (before, after) for name in request_workflow.sealed_names(each)]
    for path, old, new in resubmissions.differences(opened, reopened, TASK):
        name = path.removeprefix(f"{TASK}.headers.")
        if name in hidden:
            old, new = (each if each is resubmissions.ABSENT else WITHHELD for each in (old, new))  # noqa: PLW2901 - only what is shown
        yield _difference(path, old, new)


def _opened(context: Context, organisation: Organisation, stored: StoredRequest) -> dict[str, Any]:
    request = stored.request
    if request is None:
        raise AssertionError("what is compared exists (this is a bug)")
    return request_workflow.with_headers(
        context, organisation, request.request_id, request.payload, stored.sealed_headers
    )


def _difference(path: str, old: object, new: object) -> FieldDifference:
    return FieldDifference(
        path,
        UNSET if old is resubmissions.ABSENT else Raw(wire.encode(old)),
        UNSET if new is resubmissions.ABSENT else Raw(wire.encode(new)),
    )
