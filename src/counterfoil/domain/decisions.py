"""Deciding a request: one voice, and the execution that the last approval brings with it.

Points leave the built-in ledger in the deciding transaction, so that there is no "approved but not executed".
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from counterfoil.domain import access, delegations, endings, freezes, ledger_executions, payload_types, points
from counterfoil.domain.access import Actor
from counterfoil.domain.intouch_answers import (
    AWARDED,
    DUPLICATE_REFERENCE,
    REDEEMED,
    TOO_FEW_POINTS,
    UNAUTHORIZED,
    UNKNOWN_MEMBER,
    Outcome,
)
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payload_types import Asked
from counterfoil.domain.payloads import Redemption
from counterfoil.domain.points import Hold, MemberAccount
from counterfoil.domain.refusals import (
    AlreadyVoted,
    ChangedSinceShown,
    InvalidPayload,
    NotPermitted,
    Refusal,
    RequestNotFound,
    WrongRequest,
)
from counterfoil.domain.requests import Decide, Decided, Decision, NeedsTillCheck, Request, State


def standing(organisation: Organisation, request: Request, actor: Actor, now: datetime) -> Refusal | None:
    """None when the actor could decide this request now, else why not: what every list and view shows."""
    refused = _not_entitled(organisation, request, actor, now)
    if refused is not None:
        return refused
    holder = _holder(organisation, request, actor, None, now)
    return holder if isinstance(holder, Refusal) else None


def _not_entitled(organisation: Organisation, request: Request, actor: Actor, now: datetime) -> Refusal | None:
    refused = access.may_decide(
        organisation,
        actor,
        request.maker_person_id,
        unit_id=request.unit_id,
        request_type=request.request_type,
        points=request.points,
        now=now,
    )
    if refused is not None:
        return refused
    return endings.already(request, now)


def _check_decidable(
    organisation: Organisation, request: Request | None, command: Decide, now: datetime
) -> Refusal | None:
    if request is None:
        unknown = RequestNotFound if command.request_type is None else WrongRequest
        return unknown("no request of this organisation has that requestId", "requestId")
    if command.request_type not in (None, request.request_type):
        return WrongRequest(
            f"the request is of type {request.request_type}: send the decision to that URL", "requestId"
        )
    refused = _not_entitled(organisation, request, command.actor, now)
    if refused is not None:
        return refused
    if command.digest_seen is not None and command.digest_seen != request.digest.hex():
        return ChangedSinceShown("the request is not the one that was shown: load it again and decide then")
    return _check_reason(organisation, request.request_type, command)


def reason_codes(organisation: Organisation, request_type: str) -> tuple[str, ...]:
    """The codes that a rejection of this type may carry; none where the organisation has not declared any."""
    return tuple(each.code for each in organisation.reason_codes if each.request_type in (None, request_type))


def _check_reason(organisation: Organisation, request_type: str, command: Decide) -> Refusal | None:
    if command.reason_code is None and not command.reason_needed:
        return None
    known = reason_codes(organisation, request_type)
    if command.reason_code is None:
        if not known and command.message:
            return None  # without a list of codes the comment is the reason
        wanted = f"reasonCode: one of {', '.join(known)}" if known else "a comment"
        return InvalidPayload(f"a rejection needs {wanted}", "reasonCode" if known else "comment")
    if command.reason_code not in known:
        told = f"one of {', '.join(known)}" if known else "left out: the organisation declares none for this type"
        return InvalidPayload(f"reasonCode must be {told}", "reasonCode")
    return None


def _holder(
    organisation: Organisation, request: Request, actor: Actor, wanted: str | None, now: datetime
) -> str | Refusal:
    """Whose right this voice uses up. Whoever has given a voice, or had one given for them, has none left."""
    person_id = actor.person_id or ""
    used = delegations.used_up((each.person_id, each.on_behalf_of) for each in request.decisions)
    if person_id in used:
        given = next(each for each in request.decisions if person_id in (each.person_id, each.on_behalf_of))
        who = "you have" if given.person_id == person_id else f"on your behalf {given.user_name} has"
        return AlreadyVoted(f"{who} already decided this request: it waits for another checker", "requestId")
    found = access.holders(
        organisation,
        person_id,
        request.maker_person_id,
        unit_id=request.unit_id,
        request_type=request.request_type,
        points=request.points,
        now=now,
    )
    if wanted is not None and wanted not in found:
        return NotPermitted(f"{wanted} has delegated no right to you that covers this request", "onBehalfOf")
    free = [each for each in found if each not in used and wanted in (None, each)]
    if not free:
        return AlreadyVoted(f"the right that {found[0]} delegated to you is used up for this request", "requestId")
    return free[0]


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
    holder = _holder(organisation, request, command.actor, command.on_behalf_of, now)
    if isinstance(holder, Refusal):
        return holder
    decision = _voice(command, holder, now)
    voices = (*request.decisions, decision)
    open_hold = hold if hold is not None and hold.state == "open" else None
    if command.verdict == "rejected":
        return _close(organisation, _ended(request, voices, State.REJECTED, now), decision, account, open_hold, now)
    frozen = freezes.stopped_by(
        organisation,
        unit_id=request.unit_id,
        request_type=request.request_type,
        host_id=request.host_id,
        maker_person_id=request.maker_person_id,
        member_id=request.member_id if account is None else account.member_id,
    )
    if frozen is not None:
        return frozen
    if _valid_approvals(organisation, request, voices, now) < request.approvals_required:
        return Decided(replace(request, decisions=voices, version=request.version + 1), decision, account)
    refused = ledger_executions.above_cap(organisation.programme, request.request_type, request.points)
    if refused is not None:
        return refused
    host = next((each for each in organisation.hosts if each.host_id == request.host_id), None)
    if host is None or host.revision != request.host_revision or host.target != "ledger":
        return ChangedSinceShown("the host entry was changed after submission: reject the request and submit it again")
    refused = ledger_executions.without_expiry(organisation.programme, request.request_type)
    if refused is not None:
        return refused
    code = _till_code(organisation, request, command)
    if code is None:
        return NeedsTillCheck()
    return _execute(
        organisation, request, command, voices, account, open_hold,
        code=code, reference_used=reference_used, redemption_id=redemption_id, now=now,
    )  # fmt: skip


def _voice(command: Decide, holder: str, now: datetime) -> Decision:
    actor = command.actor
    return Decision(
        person_id=actor.person_id or "",
        user_id=actor.user_id,
        user_name=actor.user_name,
        verdict=command.verdict,
        message=command.message,
        decided_at=now,
        on_behalf_of=None if holder == actor.person_id else holder,
        reason_code=command.reason_code if command.verdict == "rejected" else None,
        sent_back=command.sent_back,
    )


def _ended(
    request: Request, voices: tuple[Decision, ...], state: State, now: datetime, outcome: Outcome | None = None
) -> Request:
    return replace(
        request,
        decisions=voices,
        version=request.version + 1,
        state=state,
        decided_at=now,
        ended_at=now,
        outcome=outcome,
        member_id=request.member_id if outcome is None or outcome.member_id is None else outcome.member_id,
    )


def _valid_approvals(organisation: Organisation, request: Request, voices: tuple[Decision, ...], now: datetime) -> int:
    """Voices count only while their owner is active and entitled (design.md §6), a lent right while it is lent."""
    return sum(
        decision.verdict == "approved"
        and (decision.on_behalf_of or decision.person_id)
        in access.holders(
            organisation,
            decision.person_id,
            request.maker_person_id,
            unit_id=request.unit_id,
            request_type=request.request_type,
            points=request.points,
            now=now,
        )
        for decision in voices
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
    change = points.release_hold(account, hold, now=now, grace_hours=organisation.programme.release_grace_hours)
    return Decided(request, decision, change.account, change.journals, change.holds)


def _execute(
    organisation: Organisation,
    request: Request,
    command: Decide,
    voices: tuple[Decision, ...],
    account: MemberAccount | None,
    hold: Hold | None,
    *,
    code: int,
    reference_used: bool,
    redemption_id: str,
    now: datetime,
) -> Decided:
    """Carry it out on the built-in ledger in the deciding transaction, judging as Intouch would."""
    asked = payload_types.read_stored(request.request_type, request.payload)
    change: points.Change | None = None
    if code == REDEEMED and isinstance(asked, Redemption):
        code, change = redeem_or_code(
            account,
            hold,
            asked.points,
            request_id=request.request_id,
            reference_used=reference_used,
            now=now,
        )
    elif code == REDEEMED:
        code, change = ledger_executions.execute(
            organisation, request.request_id, asked, account, reference_used=reference_used, now=now
        )
    account_after = account if change is None else change.account
    outcome = _outcome(organisation, request, command, asked, code, account_after, redemption_id)
    ended = _ended(request, voices, State.SUCCEEDED if outcome.succeeded else State.FAILED, now, outcome)
    if not outcome.succeeded:
        return _close(organisation, ended, voices[-1], account, hold, now)
    if change is None:
        return Decided(ended, voices[-1], account, asked=asked)
    return Decided(ended, voices[-1], change.account, change.journals, change.holds, asked)


def _outcome(
    organisation: Organisation,
    request: Request,
    command: Decide,
    asked: Asked,
    code: int,
    account: MemberAccount | None,
    redemption_id: str,
) -> Outcome:
    """The facts of the execution."""
    till = request.till_login or command.till_login
    if isinstance(asked, Redemption):
        return outcome_of(
            organisation,
            code,
            asked.points,
            account,
            till=till,
            correlation_id=command.correlation_id,
            served_by=command.served_by,
            sent=(request.identifier_kind, request.identifier_value),
            redemption_id=redemption_id,
            transaction_number=asked.transaction_number,
        )
    return Outcome(
        code=code,
        points=asked.points or 0,
        till=till,
        correlation_id=command.correlation_id,
        served_by=command.served_by,
        member_id=None if account is None else account.member_id,
        balance=0 if account is None else account.available,
        created_id=ledger_executions.created_id(request.request_id) if code == AWARDED else None,
    )


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
        mobile=known["mobile"],
        email=known["email"],
        external_id=known["external_id"],
    )
