"""Redemptions asked for directly at the points API, without a request (callers with the named right only)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from counterfoil.domain.access import Actor, Right
from counterfoil.domain.decisions import outcome_of, redeem_or_code
from counterfoil.domain.intouch_answers import REDEEMED, Outcome
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import Redemption
from counterfoil.domain.points import Change, MemberAccount
from counterfoil.domain.refusals import NotPermitted


@dataclass(frozen=True, slots=True)
class Redeem:
    """A direct call of /v1.1/points/redeem. `redeem_id` is made once."""

    redeem_id: UUID
    actor: Actor
    asked: Redemption
    correlation_id: str
    served_by: str
    redemption_ids: tuple[str, ...]
    salt: bytes


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The facts to answer with and what moved, if anything did."""

    outcome: Outcome
    change: Change | None


def may_redeem_directly(actor: Actor) -> NotPermitted | None:
    """Direct calls are for the calling systems that hold CanMovePointsDirectly (design.md §0 no. 2)."""
    if Right.MOVE_DIRECTLY in actor.login_rights:
        return None
    return NotPermitted(
        f"{actor.login} may not move points without a request: submit a POINTS-REDEMPTION request, or let an "
        "administrator grant CanMovePointsDirectly"
    )


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
