"""Redemptions asked for directly at the points API, without a request (callers with the named right only)."""

from __future__ import annotations

import json
from datetime import date, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct

from counterfoil.domain.access import Actor, Right
from counterfoil.domain.decisions import outcome_of, redeem_or_code
from counterfoil.domain.intouch_answers import REDEEMED, Outcome
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import Redemption, points_text
from counterfoil.domain.points import Change, MemberAccount
from counterfoil.domain.refusals import NotPermitted


class Redeem(Struct, frozen=True):
    """A direct call of /v1.1/points/redeem. `redeem_id` is made once."""

    redeem_id: UUID
    actor: Actor
    asked: Redemption
    correlation_id: str
    served_by: str
    redemption_ids: tuple[str, ...]
    salt: bytes


class Redeemed(Struct, frozen=True):
    """The facts to answer with and what moved, if anything did."""

    outcome: Outcome
    change: Change | None


def may_redeem_directly(
    organisation: Organisation, actor: Actor, wanted: int, used_today: int | None
) -> NotPermitted | None:
    """Direct calls are for the calling systems that hold CanMovePointsDirectly, up to their caps (design.md §0 no. 2).

    `used_today` is what the calling system has redeemed directly today; None where nobody counts it.
    """
    if Right.MOVE_DIRECTLY not in actor.login_rights:
        return NotPermitted(
            f"{actor.login} may not move points without a request: submit a POINTS-REDEMPTION request, or let an "
            "administrator grant CanMovePointsDirectly"
        )
    credential = organisation.credentials[actor.login]
    per_call, per_day = credential.direct_cap_per_call, credential.direct_cap_per_day
    if organisation.control == "dual" and (per_call is None or per_day is None):
        return NotPermitted(
            f"{actor.login} has no caps, so under dual control it moves no points without a request: submit one, or "
            "let two administrators set directCapPerCall and directCapPerDay"
        )
    if per_call is not None and wanted > per_call:
        return NotPermitted(
            f"{actor.login} may redeem at most {points_text(per_call)} points in one call without a request: submit one"
        )
    if per_day is not None and (used_today is None or used_today + wanted > per_day):
        left = max(0, per_day - (per_day if used_today is None else used_today))
        return NotPermitted(
            f"{actor.login} may redeem at most {points_text(per_day)} points a day without a request, of which "
            f"{points_text(left)} are left today: submit one"
        )
    return None


def day_of(organisation: Organisation, now: datetime) -> date:
    """The day that a daily cap counts, in the organisation's time zone."""
    return now.astimezone(ZoneInfo(organisation.time_zone)).date()


def redeem(
    organisation: Organisation,
    command: Redeem,
    account: MemberAccount | None,
    *,
    reference_used: bool,
    redemption_id: str,
    now: datetime,
) -> Redeemed:
    """Spend available points at once, judged as Intouch would."""
    code, change = redeem_or_code(
        account, None, command.asked.points, request_id=None, reference_used=reference_used, now=now
    )
    return Redeemed(
        _outcome(organisation, command, code, account if change is None else change.account, redemption_id),
        change,
    )


def replayed(organisation: Organisation, command: Redeem, account: MemberAccount | None, facts: bytes) -> Outcome:
    """The answer of a redemption that was committed while its connection was lost."""
    known = json.loads(facts)
    return _outcome(organisation, command, REDEEMED, account, known["redemption"])


def _outcome(
    organisation: Organisation, command: Redeem, code: int, account: MemberAccount | None, redemption_id: str
) -> Outcome:
    asked = command.asked
    return outcome_of(
        organisation,
        code,
        asked.points,
        account,
        till=command.actor.login,
        correlation_id=command.correlation_id,
        served_by=command.served_by,
        sent=(asked.identifier_kind, asked.identifier_value),
        redemption_id=redemption_id,
        transaction_number=asked.transaction_number,
    )
