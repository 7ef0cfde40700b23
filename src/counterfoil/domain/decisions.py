"""Deciding a request: one voice, and the execution that the last approval brings with it.

Points leave the built-in ledger in the deciding transaction, so that there is no "approved but not executed".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from msgspec.structs import replace

from counterfoil.domain import external_requests, ledger_executions, payload_types, points, voices
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
from counterfoil.domain.refusals import ChangedSinceShown, Refusal
from counterfoil.domain.requests import Decide, Decided, Decision, NeedsTillCheck, Request, State, Submit
from counterfoil.domain.rulings import Tally, pair_uses


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
    """Record one voice; the last approval executes on the built-in ledger or hands the request to the executors.

    A refusal of the points API (wrong till credential, unknown member, reference used, too few points)
    ends the request as failed; a refusal of access or policy leaves it pending.
    """
    if request is None:
        return voices.unknown_request(command)
    case = voices.case_of(organisation, request, account, now)
    refused = voices.may_be_decided(organisation, request, command, case)
    if refused is not None:
        return refused
    open_hold = hold if hold is not None and hold.state == "open" else None
    if command.verdict == "rejected":
        free = voices.holders(organisation, request, command.actor, command.on_behalf_of, case)
        if isinstance(free, Refusal):
            return free
        decision = _voice(command, free[0], now)
        ended = _ended(request, (*request.decisions, decision), State.REJECTED, now)
        return _close(organisation, ended, decision, account, open_hold, now)
    found = voices.spoken(organisation, request, command.actor, command.on_behalf_of, case)
    if isinstance(found, Refusal):
        return found
    refused = voices.frozen(organisation, request, account)
    if refused is not None:
        return refused
    holder, is_last = found
    is_repeated = holder is None
    counted = voices.has_spoken(request, command.actor)  # also where that voice has lapsed: the points are the same
    uses = () if counted else pair_uses(request.requirement, request.points, command.actor.user_name, tallies or {})
    if isinstance(uses, Refusal):
        return uses
    decision = _voice(command, holder or command.actor.person_id or "", now)
    given = request.decisions if is_repeated else (*request.decisions, decision)
    if not is_last:
        return Decided(replace(request, decisions=given, version=request.version + 1), decision, account, uses=uses)
    done = _carry_out(
        organisation, replace(request, decisions=given), command, account, open_hold,
        reference_used=reference_used, redemption_id=redemption_id, now=now,
    )  # fmt: skip
    if not isinstance(done, Decided):
        return done
    return replace(done, decision=decision, uses=uses, is_repeated=is_repeated)


def _carry_out(
    organisation: Organisation,
    request: Request,
    command: Decide,
    account: MemberAccount | None,
    hold: Hold | None,
    *,
    reference_used: bool,
    redemption_id: str,
    now: datetime,
) -> Decided | NeedsTillCheck | Refusal:
    """Execute what is agreed, or have it executed, if the host is still the one that was approved."""
    host = organisation.host(request.host_id)
    if host is not None and host.is_external:
        return external_requests.approve(host, request, command, account, now)
    refused: Refusal | None = ledger_executions.above_cap(organisation.programme, request.request_type, request.points)
    if refused is not None:
        return refused
    if host is None or host.revision != request.host_revision:
        return ChangedSinceShown("the host entry was changed after submission: reject the request and submit it again")
    refused = ledger_executions.without_expiry(organisation.programme, request.request_type)
    if refused is not None:
        return refused
    code = _till_code(organisation, request, command)
    if code is None:
        return NeedsTillCheck()
    return _execute(
        organisation, request, account, hold, command.till_login, command.correlation_id, command.served_by,
        code=code, reference_used=reference_used, redemption_id=redemption_id, now=now,
    )  # fmt: skip


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
    host = organisation.host(request.host_id)
    if host is None or host.is_external:
        return None
    if ledger_executions.without_expiry(organisation.programme, request.request_type) is not None:
        return None  # it waits as pending, as the original's auto-approval does (code 3002)
    done = _execute(
        organisation, request, account, None, "", command.correlation_id, command.served_by,
        code=REDEEMED, reference_used=False, redemption_id=redemption_id, now=now,
    )  # fmt: skip
    return done if done.request.state is State.SUCCEEDED else None


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
    outcome = _outcome(
        organisation, request, asked, code, account_after, redemption_id,
        till=request.till_login or till_login, correlation_id=correlation_id, served_by=served_by,
    )  # fmt: skip
    ended = _ended(request, request.decisions, State.SUCCEEDED if outcome.succeeded else State.FAILED, now, outcome)
    if not outcome.succeeded:
        return _close(organisation, ended, None, account, hold, now)
    if change is None:
        return Decided(ended, None, account, asked=asked)
    return Decided(ended, None, change.account, change.journals, change.holds, asked)


def _outcome(
    organisation: Organisation,
    request: Request,
    asked: Asked,
    code: int,
    account: MemberAccount | None,
    redemption_id: str,
    *,
    till: str,
    correlation_id: str,
    served_by: str,
) -> Outcome:
    """The facts of the execution."""
    if isinstance(asked, Redemption):
        return outcome_of(
            organisation,
            code,
            asked.points,
            account,
            till=till,
            correlation_id=correlation_id,
            served_by=served_by,
            sent=(request.identifier_kind, request.identifier_value),
            redemption_id=redemption_id,
            transaction_number=asked.transaction_number,
        )
    return Outcome(
        code=code,
        points=asked.points or 0,
        till=till,
        correlation_id=correlation_id,
        served_by=served_by,
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
