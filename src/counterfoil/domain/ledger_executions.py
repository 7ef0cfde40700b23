"""What the built-in ledger does with an approved request that is not a redemption, and what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from counterfoil.domain import points
from counterfoil.domain.execution_answers import NO_SUCH_MEMBER, NOT_SERVED, WRONG_PROGRAMME
from counterfoil.domain.intouch_answers import AWARDED, CHANGED, DUPLICATE_REFERENCE
from counterfoil.domain.organisations import Organisation, Programme
from counterfoil.domain.payload_types import GOODWILL_POINTS, Asked, Goodwill, StatusChange
from counterfoil.domain.payloads import TASK, points_text
from counterfoil.domain.points import Change, MemberAccount
from counterfoil.domain.refusals import BadGoodwillPoints, NoGoodwillExpiry

NUMBER_MAX: Final = 2**53 - 1  # what every client can read as a number


def above_cap(programme: Programme, request_type: str, wanted: int | None) -> BadGoodwillPoints | None:
    """The refusal of goodwill over the cap, asked at submission and again at the approval (dossier §5 no. 33)."""
    most = programme.goodwill_points_max
    if request_type != GOODWILL_POINTS or most is None or wanted is None or wanted <= most:
        return None
    return BadGoodwillPoints(
        f"goodwill is at most {points_text(most)} points a request here: ask for fewer, or let an administrator raise "
        "programme.goodwillPointsMax",
        f"{TASK}.body.points",
    )


def without_expiry(programme: Programme, request_type: str) -> NoGoodwillExpiry | None:
    """The refusal of goodwill whose expiry nobody has set: until somebody does, the request stays pending."""
    if request_type != GOODWILL_POINTS or programme.goodwill_expiry_days is not None:
        return None
    return NoGoodwillExpiry(
        "the programme does not say how long goodwill points last, so they cannot be given: an administrator sets "
        "programme.goodwillExpiryDays in the organisation file, then approve again"
    )


def flags(programme: Programme, asked: Asked) -> Iterator[str]:
    """What a checker should know of such a request, apart from its member and credentials."""
    if not isinstance(asked, Goodwill | StatusChange):
        yield "not_served"
    elif isinstance(asked, Goodwill):
        if programme.goodwill_expiry_days is None:
            yield "goodwill_expiry"
        if asked.programme_id != programme.programme_id:
            yield "programme_unknown"


def execute(
    organisation: Organisation,
    request_id: UUID,
    asked: Asked,
    account: MemberAccount | None,
    *,
    reference_used: bool,
    now: datetime,
) -> tuple[int, Change | None]:
    """The code of the execution and what it does to the member's points, if anything."""
    if not isinstance(asked, Goodwill | StatusChange):
        return NOT_SERVED, None
    if account is None:
        return NO_SUCH_MEMBER, None
    if isinstance(asked, StatusChange):
        return CHANGED, None
    programme = organisation.programme
    if asked.programme_id != programme.programme_id:
        return WRONG_PROGRAMME, None
    if reference_used:
        return DUPLICATE_REFERENCE, None
    if programme.goodwill_expiry_days is None:
        raise AssertionError("without_expiry refuses goodwill that would never expire (this is a bug)")
    expires_at = now + timedelta(days=programme.goodwill_expiry_days)
    return AWARDED, points.award(account, asked.points, request_id=request_id, now=now, expires_at=expires_at)


def created_id(request_id: UUID) -> int:
    """The number of what a request created: its random bits, so as good as unique, and the same when run again."""
    return request_id.int & NUMBER_MAX
