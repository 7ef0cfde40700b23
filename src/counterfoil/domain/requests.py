"""The life of a request: its states, and the rules that move it from one to the next.

Every rule takes one request with its member's account and returns both changed, or a refusal. Nothing
here reads a clock: `now` is the database's, read after the locks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final
from uuid import UUID

from counterfoil.domain import access, payloads, points
from counterfoil.domain.access import Actor, Place
from counterfoil.domain.intouch_answers import (
    DUPLICATE_REFERENCE,
    REDEEMED,
    TOO_FEW_POINTS,
    UNAUTHORIZED,
    UNKNOWN_MEMBER,
    Outcome,
)
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import Redemption, points_text
from counterfoil.domain.points import Hold, Journal, MemberAccount
from counterfoil.domain.refusals import (
    AlreadyCompleted,
    ChangedSinceShown,
    InvalidPayload,
    NobodyCanCheck,
    Refusal,
    WrongRequest,
)


class State(StrEnum):
    """Where a request stands (design.md §4)."""

    PENDING = "pending"
    APPROVED = "approved"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.PENDING: frozenset(
        {State.APPROVED, State.SUCCEEDED, State.FAILED, State.REJECTED, State.WITHDRAWN, State.EXPIRED}
    ),
    State.APPROVED: frozenset({State.UNKNOWN, State.SUCCEEDED, State.FAILED}),
    State.UNKNOWN: frozenset({State.APPROVED, State.SUCCEEDED, State.FAILED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.REJECTED: frozenset(),
    State.WITHDRAWN: frozenset(),
    State.EXPIRED: frozenset(),
}
FINAL: Final = frozenset(state for state, following in TRANSITIONS.items() if not following)

WIRE_STATE: Final[Mapping[State, str]] = {
    State.PENDING: "AdminTask",
    State.APPROVED: "AdminTask",
    State.UNKNOWN: "AdminTask",
    State.SUCCEEDED: "approved",
    State.FAILED: "failed",
    State.REJECTED: "rejected",
    State.WITHDRAWN: "rejected",
    State.EXPIRED: "rejected",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """One checker's voice. `verdict` is approved or rejected."""

    person_id: str
    user_id: int
    user_name: str
    verdict: str
    message: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Request:
    """A maker's proposal under control. Points in thousandths; `payload` is the stored form."""

    request_id: UUID
    request_type: str
    state: State
    maker_person_id: str
    maker_user_id: int
    maker_user_name: str
    unit_id: int
    points: int
    host_id: str
    host_revision: int
    payload: bytes
    digest: bytes
    approvals_required: int
    started_at: datetime
    version: int = 1
    member_id: int | None = None
    identifier_kind: str = ""
    identifier_value: str = ""
    external_reference: str | None = None
    till_login: str | None = None
    till_epoch: int | None = None
    flags: tuple[str, ...] = ()
    duplicate_of: UUID | None = None
    decided_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class Submit:
    """A create call after all that needs no database: who, where, what. `request_id` is made once."""

    request_id: UUID
    actor: Actor
    place: Place
    request_type: str
    entity_info: bytes
    redemption: Redemption
    host_id: str
    host_revision: int
    payload: bytes
    sealed_headers: bytes
    content_digest: bytes
    salt: bytes
    till_login: str | None = None
    till_epoch: int | None = None
    idempotency_key: str | None = None
    idempotency_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Decide:
    """A decide call. `decision_id` is made once; `verdict` is approved or rejected."""

    decision_id: UUID
    actor: Actor
    request_id: UUID
    request_type: str
    verdict: str
    message: str
    correlation_id: str
    served_by: str
    redemption_ids: tuple[str, ...]
    salt: bytes
    till_login: str = ""
    till_verified: bool | None = None
    digest_seen: str | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request that now exists, the account it changed and the journals of that."""

    request: Request
    account: MemberAccount | None
    journals: tuple[Journal, ...] = ()
    holds: tuple[Hold, ...] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """A request after one voice, and all that this voice moved."""

    request: Request
    decision: Decision
    account: MemberAccount | None
    journals: tuple[Journal, ...] = ()
    holds: tuple[Hold, ...] = ()
    asked: Redemption | None = None


@dataclass(frozen=True, slots=True)
class NeedsTillCheck:
    """The stored till credential must be verified again before this approval can be executed."""


def submit(
    organisation: Organisation,
    command: Submit,
    account: MemberAccount | None,
    *,
    digest: bytes,
    duplicate_of: UUID | None,
    now: datetime,
) -> Submitted | Refusal:
    """Accept a request as pending, with its points set aside where the member has enough.

    Under `profile: strict` too few points or units that disagree are refused instead of flagged.
    """
    wanted = command.redemption.points
    refused = access.may_submit(organisation, command.actor, command.place, command.request_type, wanted, now)
    policy = organisation.policy
    if refused is not None or policy is None:
        return refused or NobodyCanCheck("the organisation has no policy")
    flags = [f"unit_mismatch:{field}" for field in command.place.mismatched]
    if flags and organisation.profile == "strict":
        field = command.place.mismatched[0]
        return InvalidPayload(
            f"entityInfo.{field} is not above the till or store that was sent: correct it or leave it out",
            f"entityInfo.{field}",
        )
    change: points.Change | None = None
    if account is None:
        flags.append("member_unknown")
    elif duplicate_of is None:
        change = points.place_hold(
            account, command.request_id, wanted, now=now, days=organisation.programme.hold_days
        )
    if duplicate_of is not None:
        flags.append("duplicate")
    elif change is None:
        flags.append("unfunded")
        if organisation.profile == "strict":
            available = 0 if account is None else points.spendable(account, now)
            return InvalidPayload(
                f"the member has {points_text(available)} points available, fewer than the request asks for",
                "payload.IntouchAPITask-Payload.body.root.redeem.points_redeemed",
            )
    if command.till_epoch is None:
        flags.append("till_credential")
    request = Request(
        request_id=command.request_id,
        request_type=command.request_type,
        state=State.PENDING,
        maker_person_id=command.actor.person_id or "",
        maker_user_id=command.actor.user_id,
        maker_user_name=command.actor.user_name,
        unit_id=command.place.unit_id,
        points=wanted,
        host_id=command.host_id,
        host_revision=command.host_revision,
        payload=command.payload,
        digest=digest,
        approvals_required=policy.approvals_required,
        started_at=now,
        member_id=None if account is None else account.member_id,
        identifier_kind=command.redemption.identifier_kind,
        identifier_value=command.redemption.identifier_value,
        external_reference=command.redemption.external_reference,
        till_login=command.till_login,
        till_epoch=command.till_epoch,
        flags=tuple(flags),
        duplicate_of=duplicate_of,
    )
    if change is None:
        return Submitted(request, account)
    return Submitted(request, change.account, change.journals, change.holds)


def _check_decidable(
    organisation: Organisation, request: Request | None, command: Decide, now: datetime
) -> Refusal | None:
    if request is None:
        return WrongRequest("no request of this organisation has that requestId", "requestId")
    if request.request_type != command.request_type:
        return WrongRequest(
            f"the request is of type {request.request_type}: send the decision to that URL", "requestId"
        )
    refused = access.may_decide(
        organisation,
        command.actor,
        request.maker_person_id,
        unit_id=request.unit_id,
        request_type=request.request_type,
        points=request.points,
        now=now,
    )
    if refused is not None:
        return refused
    if request.state is not State.PENDING:
        last = request.decisions[-1] if request.decisions else None
        told = (
            f"{last.user_name} {last.verdict} it at {last.decided_at:%Y-%m-%dT%H:%M:%SZ}"
            if last
            else request.state
        )
        return AlreadyCompleted(f"the request is already completed: {told}", "requestId")
    if any(decision.person_id == command.actor.person_id for decision in request.decisions):
        return AlreadyCompleted(
            "you have already decided this request: it waits for another checker", "requestId"
        )
    if command.digest_seen is not None and command.digest_seen != request.digest.hex():
        return ChangedSinceShown("the request is not the one that was shown: load it again and decide then")
    return None


def decide(
    organisation: Organisation,
    request: Request | None,
    command: Decide,
    account: MemberAccount | None,
    hold: Hold | None,
    *,
    reference_used: bool,
    redemption_id: str,
    now: datetime,
) -> Decided | NeedsTillCheck | Refusal:
    """Record one voice; the last approval executes on the built-in ledger, a rejection ends the request.

    A refusal of the points API (wrong till credential, unknown member, reference used, too few points)
    ends the request as failed; a refusal of access or policy leaves it pending.
    """
    refused = _check_decidable(organisation, request, command, now)
    if refused is not None or request is None:
        return refused or WrongRequest("no such request", "requestId")
    actor = command.actor
    decision = Decision(
        actor.person_id or "", actor.user_id, actor.user_name, command.verdict, command.message, now
    )
    voted = replace(request, decisions=(*request.decisions, decision), version=request.version + 1)
    open_hold = hold if hold is not None and hold.state == "open" else None
    if command.verdict == "rejected":
        ended = replace(voted, state=State.REJECTED, decided_at=now, ended_at=now)
        return _close(organisation, ended, decision, account, open_hold, now)
    if _valid_approvals(organisation, voted, now) < request.approvals_required:
        return Decided(voted, decision, account)
    host = next((each for each in organisation.hosts if each.host_id == request.host_id), None)
    if host is None or host.revision != request.host_revision or host.target != "ledger":
        return ChangedSinceShown(
            "the host entry was changed after submission: reject the request and submit it again"
        )
    code = _till_code(organisation, request, command)
    if code is None:
        return NeedsTillCheck()
    return _execute(
        organisation, voted, command, decision, account, open_hold,
        code=code, reference_used=reference_used, redemption_id=redemption_id, now=now,
    )  # fmt: skip


def _valid_approvals(organisation: Organisation, request: Request, now: datetime) -> int:
    """Voices count only while their owner is active and entitled (design.md §6)."""
    return sum(
        decision.verdict == "approved"
        and access.has_right(
            organisation,
            decision.person_id,
            access.Right.CHECK,
            unit_id=request.unit_id,
            request_type=request.request_type,
            points=request.points,
            now=now,
        )
        for decision in request.decisions
    )


def _till_code(organisation: Organisation, request: Request, command: Decide) -> int | None:
    """REDEEMED where the payload's till credential is right now, 401 where it is wrong, None if unverified."""
    if command.till_verified is not None:
        return REDEEMED if command.till_verified else UNAUTHORIZED
    credential = organisation.credentials.get(request.till_login or "")
    if credential is not None and credential.active and credential.epoch == request.till_epoch:
        return REDEEMED
    return None


def _close(
    organisation: Organisation,
    request: Request,
    decision: Decision,
    account: MemberAccount | None,
    hold: Hold | None,
    now: datetime,
) -> Decided:
    """End a request that moved no points: what it held goes back."""
    if hold is None or account is None:
        return Decided(request, decision, account)
    change = points.release_hold(
        account, hold, now=now, grace_hours=organisation.programme.release_grace_hours
    )
    return Decided(request, decision, change.account, change.journals, change.holds)


def _execute(
    organisation: Organisation,
    request: Request,
    command: Decide,
    decision: Decision,
    account: MemberAccount | None,
    hold: Hold | None,
    *,
    code: int,
    reference_used: bool,
    redemption_id: str,
    now: datetime,
) -> Decided:
    """Redeem on the built-in ledger in the deciding transaction, judging as Intouch would."""
    asked = payloads.read_redemption(json.loads(request.payload, parse_float=Decimal)["body"])
    change: points.Change | None = None
    if code == REDEEMED:
        code, change = redeem_or_code(
            account,
            hold,
            request.points,
            request_id=request.request_id,
            reference_used=reference_used,
            now=now,
        )
    account_after = account if change is None else change.account
    outcome = outcome_of(
        organisation,
        code,
        request.points,
        account_after,
        till=request.till_login or command.till_login,
        correlation_id=command.correlation_id,
        served_by=command.served_by,
        sent=(request.identifier_kind, request.identifier_value),
        redemption_id=redemption_id,
        transaction_number=asked.transaction_number,
    )
    ended = replace(
        request,
        state=State.SUCCEEDED if outcome.succeeded else State.FAILED,
        decided_at=now,
        ended_at=now,
        member_id=request.member_id if account is None else account.member_id,
        outcome=outcome,
    )
    if change is None:
        return _close(organisation, ended, decision, account, hold, now)
    return Decided(ended, decision, change.account, change.journals, change.holds, asked)


def redeem_or_code(
    account: MemberAccount | None,
    hold: Hold | None,
    wanted: int,
    *,
    request_id: UUID | None,
    reference_used: bool,
    now: datetime,
) -> tuple[int, points.Change | None]:
    """The item code of a redemption and, when it is 800, what it changes."""
    if account is None:
        return UNKNOWN_MEMBER, None
    if reference_used:
        return DUPLICATE_REFERENCE, None
    if hold is not None:
        return REDEEMED, points.capture_hold(account, hold)
    change = points.redeem(account, wanted, request_id=request_id, now=now)
    return (TOO_FEW_POINTS, None) if change is None else (REDEEMED, change)


def outcome_of(
    organisation: Organisation,
    code: int,
    wanted: int,
    account: MemberAccount | None,
    *,
    till: str,
    correlation_id: str,
    served_by: str,
    sent: tuple[str, str],
    redemption_id: str,
    transaction_number: str = "",
) -> Outcome:
    """Collect the facts that an answer of the points API is rendered from."""
    good = code == REDEEMED
    known = {"mobile": "", "email": "", "external_id": ""}
    if account is not None:
        known = {"mobile": account.mobile, "email": account.email, "external_id": account.external_id}
    elif sent[0] in ("mobile", "email"):
        known[sent[0]] = sent[1]
    return Outcome(
        code=code,
        points=wanted,
        till=till,
        correlation_id=correlation_id,
        served_by=served_by,
        member_id=None if account is None else account.member_id,
        redemption_id=redemption_id if good else None,
        balance=0 if account is None else account.available,
        currency_value=organisation.programme.currency_per_point * wanted / 1000 if good else Decimal(0),
        transaction_number=transaction_number,
        **known,
    )
