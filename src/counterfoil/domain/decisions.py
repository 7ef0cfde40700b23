"""Deciding a request: one voice, and the execution that the last approval brings with it.

Points leave the built-in ledger in the deciding transaction, so that there is no "approved but not executed".
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from counterfoil.domain import access, payloads, points
from counterfoil.domain.intouch_answers import (
    DUPLICATE_REFERENCE,
    REDEEMED,
    TOO_FEW_POINTS,
    UNAUTHORIZED,
    UNKNOWN_MEMBER,
    Outcome,
)
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.points import Hold, MemberAccount
from counterfoil.domain.refusals import AlreadyCompleted, ChangedSinceShown, Refusal, WrongRequest
from counterfoil.domain.requests import Decide, Decided, Decision, NeedsTillCheck, Request, State


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
        told = f"{last.user_name} {last.verdict} it at {last.decided_at:%Y-%m-%dT%H:%M:%SZ}" if last else request.state
        return AlreadyCompleted(f"the request is already completed: {told}", "requestId")
    if any(decision.person_id == command.actor.person_id for decision in request.decisions):
        return AlreadyCompleted("you have already decided this request: it waits for another checker", "requestId")
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
    decision = Decision(actor.person_id or "", actor.user_id, actor.user_name, command.verdict, command.message, now)
    voices = (*request.decisions, decision)
    open_hold = hold if hold is not None and hold.state == "open" else None
    if command.verdict == "rejected":
        return _close(organisation, _ended(request, voices, State.REJECTED, now), decision, account, open_hold, now)
    if _valid_approvals(organisation, request, voices, now) < request.approvals_required:
        return Decided(replace(request, decisions=voices, version=request.version + 1), decision, account)
    host = organisation.host(request.host_id)
    if host is None or host.revision != request.host_revision:
        return ChangedSinceShown("the host entry was changed after submission: reject the request and submit it again")
    if host.is_external:
        return Decided(_approved(request, command, voices, now), decision, account)
    code = _till_code(organisation, request, command)
    if code is None:
        return NeedsTillCheck()
    return _execute(
        organisation, request, command, voices, account, open_hold,
        code=code, reference_used=reference_used, redemption_id=redemption_id, now=now,
    )  # fmt: skip


def _approved(request: Request, command: Decide, voices: tuple[Decision, ...], now: datetime) -> Request:
    """Approved, to be executed on an external host: by the deciding process at once, else by any executor."""
    leased = command.lease_owner is not None
    until = now + timedelta(seconds=command.lease_seconds) if leased else None
    return replace(
        request,
        decisions=voices,
        version=request.version + 1,
        state=State.APPROVED,
        decided_at=now,
        due_at=until or now,
        lease_owner=command.lease_owner,
        lease_until=until,
        fence=request.fence + leased,
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
    ended = _ended(request, voices, State.SUCCEEDED if outcome.succeeded else State.FAILED, now, outcome)
    if change is None:
        return _close(organisation, ended, voices[-1], account, hold, now)
    return Decided(ended, voices[-1], change.account, change.journals, change.holds, asked)


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
