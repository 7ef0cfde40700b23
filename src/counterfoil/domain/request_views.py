"""What a person should know before deciding: the member's position, what an approval would do, who is asked.

Everything here is computed by the rules that the write path uses; nothing here decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from counterfoil.domain import decisions, eligibility, points
from counterfoil.domain import voices as speaking
from counterfoil.domain.access import Actor
from counterfoil.domain.eligibility import Case
from counterfoil.domain.intouch_answers import ITEM_MESSAGES, UNAUTHORIZED
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.points import Hold, MemberAccount
from counterfoil.domain.policies import Need
from counterfoil.domain.refusals import Refusal
from counterfoil.domain.requests import Decide, Decided, Decision, NeedsTillCheck, Request, State
from counterfoil.domain.rulings import Pairs, pair_tallies

PEOPLE_MAX: Final = 50
_ASKED_MAX: Final = 2000
EXPIRING_MAX: Final = 20
FLAG_MEANINGS: Final[Mapping[str, str]] = {
    "unfunded": "too few points at submission, so none are set aside: an approval takes what is there then, or fails",
    "duplicate": "an earlier request, open or succeeded, has the same reference: no points are set aside for this one",
    "member_unknown": "nobody had that identifier at submission: if nobody has it at the approval, it fails",
    "till_credential": "the payload's own credentials were wrong at submission: they are verified again then",
    "unit_mismatch": "an id that was sent disagrees with the organisation's units; access goes by our own unit",
}


class RequestFile(Struct, frozen=True):
    """A request with everything that a full view is made from, read at one moment."""

    organisation_version: int
    now: datetime
    request: Request | None
    account: MemberAccount | None = None
    hold: Hold | None = None
    reference_used: bool = False
    same_reference: Sequence[UUID] = ()
    pairs: Pairs = field(default_factory=dict)


class Expiring(Struct, frozen=True):
    """Points of one lot that end, by when; `held` of them are set aside and do not end while they are."""

    points: int
    held: int
    ends_at: datetime


class Position(Struct, frozen=True):
    """The member's points now, and what this request holds of them."""

    member_id: int
    available: int
    held: int
    expiring: Sequence[Expiring]
    hold: Hold | None


class Preview(Struct, frozen=True):
    """What an approval by `person_id` would do now. Without a code it would only be counted, or be refused.

    `code`, `succeeded` and the balances are those of the last approval, whether or not this one is the last.
    """

    person_id: str
    is_last: bool
    refused: Refusal | None = None
    code: int | None = None
    succeeded: bool = False
    message: str = ""
    needs_till_check: bool = False
    available_after: int | None = None
    held_after: int | None = None


class Voice(Struct, frozen=True):
    """A decision, and whether it still counts: its owner must be active and entitled when the last one comes."""

    decision: Decision
    counts: bool


def settled(organisation: Organisation, file: RequestFile) -> RequestFile:
    """The file as a verb would see it: what time has already decided is carried out."""
    if file.account is None:
        return file
    hours = organisation.programme.release_grace_hours
    change = points.settle_due(file.account, now=file.now, grace_hours=hours)
    closed = {hold.request_id for hold in change.holds}
    hold = None if file.hold is not None and file.hold.request_id in closed else file.hold
    return replace(file, account=change.account, hold=hold)


def position(file: RequestFile) -> Position | None:
    """The member's points; None for an unknown member."""
    account = file.account
    if account is None:
        return None
    ending = sorted((lot for lot in account.lots if lot.ends_at != points.FOREVER), key=lambda lot: lot.ends_at)
    expiring = [Expiring(lot.remaining - lot.held, lot.held, lot.ends_at) for lot in ending[:EXPIRING_MAX]]
    return Position(account.member_id, account.available, account.held, expiring, file.hold)


def voices(organisation: Organisation, request: Request, now: datetime) -> list[Voice]:
    """Who has decided. An approval counts where it fills a place of the requirement."""
    case = speaking.case_of(organisation, request, None, now)
    filling = {each.person_id for each in _assigned(organisation, request, case) if each is not None}
    return [
        Voice(
            each,
            each.person_id in filling
            if each.verdict == "approved"
            else speaking.counts(organisation, request, each, case),
        )
        for each in request.decisions
    ]


def filled(organisation: Organisation, request: Request, now: datetime) -> dict[Need, int]:
    """How many of the people that each need asks for have spoken."""
    case = speaking.case_of(organisation, request, None, now)
    needs = request.requirement.needs
    given = dict.fromkeys(needs, 0)
    for need, voice in zip(eligibility.places_of(needs), _assigned(organisation, request, case), strict=True):
        given[need] += voice is not None
    return given


def _assigned(organisation: Organisation, request: Request, case: Case) -> list[eligibility.Voice | None]:
    counted = speaking.counted(organisation, request, request.decisions, case)
    return eligibility.assigned(organisation, request.requirement.needs, counted, case)


def asked(organisation: Organisation, request: Request) -> list[str]:
    """The people who come into question, by staff id."""
    found = {
        grant.person_id
        for place in (None, *organisation.above(request.unit_id))
        for grant in organisation.check_grants_at.get(place, ())
    }
    found |= {each.delegate_id for each in organisation.delegations if each.delegator_id in found}
    return sorted(found & organisation.people_with_user)[:_ASKED_MAX]


def who_can(organisation: Organisation, file: RequestFile, request: Request) -> list[Actor]:
    """The first people, by staff id, who could decide now; one more than PEOPLE_MAX where there are more."""
    if request.state is not State.PENDING:
        return []
    users = {user.person_id: user for user in organisation.users.values() if user.active}
    found: list[Actor] = []
    for person_id in asked(organisation, request):
        user = users[person_id]
        actor = Actor(
            organisation.org_id,
            organisation.version,
            "",
            frozenset(),
            person_id,
            user.user_id,
            user.user_name,
            has_user=True,
        )
        if standing(organisation, file, request, actor) is None:
            found.append(actor)
        if len(found) > PEOPLE_MAX:
            break
    return found


def standing(organisation: Organisation, file: RequestFile, request: Request, actor: Actor) -> Refusal | None:
    """None when the actor could approve it now, else why not."""
    return speaking.standing(organisation, request, actor, file.now, account=file.account, pairs=file.pairs)


def preview(organisation: Organisation, file: RequestFile, actor: Actor) -> Preview:
    """Try an approval without writing it: first as it is, then as if it were the last."""
    request = file.request
    if request is None or actor.person_id is None:
        raise AssertionError("only a request can be tried, and only by a person (this is a bug)")
    command = Decide(
        decision_id=UUID(int=0), actor=actor, request_id=request.request_id, request_type=request.request_type,
        verdict="approved", message="a trial", correlation_id="", served_by="", redemption_ids=("", ""), salt=b"",
    )  # fmt: skip
    tried = _try(organisation, file, request, command)
    is_last = not (isinstance(tried, Decided) and tried.request.state is State.PENDING)
    if not is_last:
        tried = _try(organisation, file, _agreed(request), command)
    needs_till_check = isinstance(tried, NeedsTillCheck)
    if needs_till_check:  # suppose that the credential is right by then
        last = _agreed(request)
        tried = _try(organisation, file, last, replace(command, till_verified=True))
    if isinstance(tried, Refusal):
        return Preview(actor.person_id, is_last, refused=tried)
    if not isinstance(tried, Decided) or tried.request.outcome is None:
        return Preview(actor.person_id, is_last)
    code, account = tried.request.outcome.code, tried.account
    return Preview(
        actor.person_id,
        is_last,
        code=code,
        succeeded=tried.request.outcome.succeeded,
        message="the till credential is wrong" if code == UNAUTHORIZED else ITEM_MESSAGES.get(code, ""),
        needs_till_check=needs_till_check,
        available_after=None if account is None else account.available,
        held_after=None if account is None else account.held,
    )


def _agreed(request: Request) -> Request:
    """The same request when nobody else is needed any more."""
    return replace(request, requirement=replace(request.requirement, needs=(), pair_caps=()))


def _try(
    organisation: Organisation, file: RequestFile, request: Request, command: Decide
) -> Decided | NeedsTillCheck | Refusal:
    return decisions.decide(
        organisation, request, command, file.account, file.hold,
        reference_used=file.reference_used, redemption_id="", now=file.now,
        tallies=pair_tallies(
            request.requirement, request.maker_person_id, command.actor.person_id or "", file.pairs, file.now.date()
        ),
    )  # fmt: skip


def explain_flag(flag: str) -> str:
    """What a flag tells the checker."""
    name, _, field = flag.partition(":")
    meaning = FLAG_MEANINGS.get(name, "")
    return f"{field}: {meaning}" if field else meaning
