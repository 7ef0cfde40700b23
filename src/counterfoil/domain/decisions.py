"""Deciding a request: one voice, and the execution that the last approval brings with it.

Points leave the built-in ledger in the deciding transaction, so that there is no "approved but not executed".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from counterfoil.domain import access, eligibility, payloads, points
from counterfoil.domain.eligibility import Case
from counterfoil.domain.intouch_answers import (
    DUPLICATE_REFERENCE,
    REDEEMED,
    TOO_FEW_POINTS,
    UNAUTHORIZED,
    UNKNOWN_MEMBER,
    Outcome,
)
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import points_text
from counterfoil.domain.points import Hold, MemberAccount
from counterfoil.domain.policies import describe_need
from counterfoil.domain.refusals import (
    AlreadyCompleted,
    CapReached,
    ChangedSinceShown,
    InvalidPayload,
    NotNeeded,
    Refusal,
    WrongRequest,
)
from counterfoil.domain.requests import Decide, Decided, Decision, NeedsTillCheck, Request, State, Submit, concerned
from counterfoil.domain.rulings import CapUse, Tally

MESSAGE = "payload.AdminTask-Payload.actionMessage"


def _check_decidable(
    organisation: Organisation, request: Request | None, command: Decide, case: Case | None, now: datetime
) -> Refusal | None:
    if request is None or case is None:
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
        concerned=case.barred - {request.maker_person_id},
    )
    if refused is not None:
        return refused
    if request.state is not State.PENDING:
        last = request.decisions[-1] if request.decisions else None
        told = f"{last.user_name} {last.verdict} it at {last.decided_at:%Y-%m-%dT%H:%M:%SZ}" if last else request.state
        return AlreadyCompleted(f"the request is already completed: {told}", "requestId")
    if request.expires_at is not None and now >= request.expires_at:
        return AlreadyCompleted(
            f"its time ended at {request.expires_at:%Y-%m-%dT%H:%M:%SZ}: make it again", "requestId"
        )
    if command.digest_seen is not None and command.digest_seen != request.digest.hex():
        return ChangedSinceShown("the request is not the one that was shown: load it again and decide then")
    if request.requirement.comment and not command.message.strip():
        return InvalidPayload(f"{MESSAGE} must say why: the policy asks for a comment on this request", MESSAGE)
    return None


def case_of(organisation: Organisation, request: Request, account: MemberAccount | None, now: datetime) -> Case:
    """The request as far as it matters who may decide it."""
    barred = concerned(organisation, account, request.identifier_kind, request.identifier_value)
    return Case(request.unit_id, request.request_type, request.points, barred | {request.maker_person_id}, now)


ALREADY = "you have already decided this request: it waits for another checker"


def _agreement(
    organisation: Organisation, request: Request, voices: tuple[Decision, ...], case: Case, *, has_spoken: bool
) -> bool | Refusal:
    """Whether the request is agreed with these voices, or why the last of them is of no use.

    Voices that had lapsed may count again: then anybody who has given one may say so, and that completes it.
    """
    needs = request.requirement.needs
    before = eligibility.assigned(organisation, needs, eligibility.voices_of(request.decisions), case)
    if None not in before:
        return True
    if has_spoken:
        return AlreadyCompleted(ALREADY, "requestId")
    after = eligibility.assigned(organisation, needs, eligibility.voices_of(voices), case)
    missing = eligibility.open_needs(needs, before)
    reached = sum(place.step <= missing[0].step for place in eligibility.places_of(needs))
    if after[:reached].count(None) < before[:reached].count(None):
        return None not in after
    told = " or ".join(dict.fromkeys(describe_need(replace(need, count=1)) for need in missing))
    return NotNeeded(f"your voice is not needed now: the request waits for {told}")


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
    tallies: Mapping[str, Tally] | None = None,
) -> Decided | NeedsTillCheck | Refusal:
    """Record one voice; the last approval executes on the built-in ledger, a rejection ends the request.

    A refusal of the points API (wrong till credential, unknown member, reference used, too few points)
    ends the request as failed; a refusal of access or policy leaves it pending.
    """
    case = None if request is None else case_of(organisation, request, account, now)
    refused = _check_decidable(organisation, request, command, case, now)
    if refused is not None or request is None or case is None:
        return refused or WrongRequest("no such request", "requestId")
    actor = command.actor
    decision = Decision(actor.person_id or "", actor.user_id, actor.user_name, command.verdict, command.message, now)
    voices = (*request.decisions, decision)
    open_hold = hold if hold is not None and hold.state == "open" else None
    has_spoken = any(each.person_id == actor.person_id for each in request.decisions)
    if has_spoken and command.verdict == "rejected":
        return AlreadyCompleted(ALREADY, "requestId")
    if command.verdict == "rejected":
        return _close(organisation, _ended(request, voices, State.REJECTED, now), decision, account, open_hold, now)
    agreed = _agreement(organisation, request, voices, case, has_spoken=has_spoken)
    if isinstance(agreed, Refusal):
        return agreed
    uses = () if has_spoken else _pair_uses(request, actor.user_name, tallies or {})
    if isinstance(uses, Refusal):
        return uses
    voices = request.decisions if has_spoken else voices
    if not agreed:
        pending = replace(request, decisions=voices, version=request.version + 1)
        return Decided(pending, decision, account, uses=uses)
    host = next((each for each in organisation.hosts if each.host_id == request.host_id), None)
    if host is None or host.revision != request.host_revision or host.target != "ledger":
        return ChangedSinceShown("the host entry was changed after submission: reject the request and submit it again")
    code = _till_code(organisation, request, command)
    if code is None:
        return NeedsTillCheck()
    done = _execute(
        organisation, request, voices, account, open_hold, command.till_login, command.correlation_id,
        command.served_by, code=code, reference_used=reference_used, redemption_id=redemption_id, now=now,
    )  # fmt: skip
    return replace(done, decision=decision, uses=uses, is_repeated=has_spoken)


def _pair_uses(request: Request, checker: str, tallies: Mapping[str, Tally]) -> tuple[CapUse, ...] | Refusal:
    """The counters of maker and checker together that this voice is counted in."""
    uses: list[CapUse] = []
    for cap in request.requirement.pair_caps:
        tally = tallies[cap.name]
        if tally.points + request.points > cap.points:
            left = points_text(max(0, cap.points - tally.points))
            return CapReached(
                f"the cap {cap.name} leaves {left} points that {checker} may approve today for this maker: "
                "ask another checker"
            )
        uses.append(CapUse(cap.name, tally.subject, tally.day))
    return tuple(uses)


def execute_by_policy(
    organisation: Organisation,
    request: Request,
    command: Submit,
    account: MemberAccount | None,
    *,
    reference_used: bool,
    redemption_id: str,
    now: datetime,
) -> Decided | None:
    """Execute what a rule approves without a checker; None where it cannot be done and must wait for one."""
    if reference_used or account is None:
        return None
    host = next((each for each in organisation.hosts if each.host_id == request.host_id), None)
    if host is None or host.target != "ledger":
        return None
    done = _execute(
        organisation, request, (), account, None, "", command.correlation_id, command.served_by,
        code=REDEEMED, reference_used=False, redemption_id=redemption_id, now=now,
    )  # fmt: skip
    return done if done.request.state is State.SUCCEEDED else None


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
    decision: Decision | None,
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
    voices: tuple[Decision, ...],
    account: MemberAccount | None,
    hold: Hold | None,
    till_login: str,
    correlation_id: str,
    served_by: str,
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
        till=request.till_login or till_login,
        correlation_id=correlation_id,
        served_by=served_by,
        sent=(request.identifier_kind, request.identifier_value),
        redemption_id=redemption_id,
        transaction_number=asked.transaction_number,
    )
    ended = _ended(request, voices, State.SUCCEEDED if outcome.succeeded else State.FAILED, now, outcome)
    if change is None:
        return _close(organisation, ended, None, account, hold, now)
    return Decided(ended, None, change.account, change.journals, change.holds, asked)


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
