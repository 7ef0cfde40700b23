"""Who may give a voice on a request, with whose right, and whether the voices so far are an agreement."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec.structs import replace

from counterfoil.domain import access, delegations, eligibility, endings, freezes
from counterfoil.domain.access import Actor
from counterfoil.domain.eligibility import Case, Voice
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.points import MemberAccount
from counterfoil.domain.policies import describe_need
from counterfoil.domain.refusals import (
    AlreadyVoted,
    ChangedSinceShown,
    Frozen,
    InvalidPayload,
    NotNeeded,
    NotPermitted,
    Refusal,
    RequestNotFound,
    SelfInterest,
    WrongRequest,
)
from counterfoil.domain.requests import Decide, Decision, Request, concerned_in, members_in
from counterfoil.domain.rulings import NO_PAIRS, Pairs, pair_tallies, pair_uses

MESSAGE = "payload.AdminTask-Payload.actionMessage"


def standing(
    organisation: Organisation,
    request: Request,
    actor: Actor,
    now: datetime,
    *,
    account: MemberAccount | None = None,
    pairs: Pairs = NO_PAIRS,
) -> Refusal | None:
    """None when the actor could approve this request now, else why not: what every list and view shows."""
    case = case_of(organisation, request, account, now)
    refused = _not_entitled(organisation, request, actor, case)
    if refused is not None:
        return refused
    found = spoken(organisation, request, actor, None, case)
    refused = found if isinstance(found, Refusal) else frozen(organisation, request, account)
    if refused is not None or has_spoken(request, actor):
        return refused
    checker = actor.person_id or ""
    tallies = pair_tallies(request.requirement, request.maker_person_id, checker, pairs, now.date())
    uses = pair_uses(request.requirement, request.points, actor.user_name, tallies)
    return uses if isinstance(uses, Refusal) else None


def frozen(organisation: Organisation, request: Request, account: MemberAccount | None) -> Frozen | None:
    """The refusal of an approval while a freeze covers the request."""
    refused = freezes.stopped_by(
        organisation,
        unit_id=request.unit_id,
        request_type=request.request_type,
        host_id=request.host_id,
        maker_person_id=request.maker_person_id,
        member_ids=(request.member_id if account is None else account.member_id, *members_in(request)),
    )
    return None if refused is None else Frozen(f"{refused.message}; rejecting it stays possible")


def case_of(organisation: Organisation, request: Request, account: MemberAccount | None, now: datetime) -> Case:
    """The request as far as it matters who may decide it."""
    maker = request.maker_person_id
    barred = concerned_in(organisation, request, account)
    stores = eligibility.maker_stores(organisation, request.requirement.needs, maker, now)
    return Case(
        request.unit_id, request.request_type, request.points, barred | {maker}, now, stores, maker in barred
    )  # fmt: skip


def _not_entitled(organisation: Organisation, request: Request, actor: Actor, case: Case) -> Refusal | None:
    refused = access.may_decide(
        organisation,
        actor,
        request.maker_person_id,
        unit_id=request.unit_id,
        request_type=request.request_type,
        points=request.points,
        now=case.now,
        concerned=case.barred - {request.maker_person_id},
    )
    return refused or endings.already(request, case.now)


def may_be_decided(organisation: Organisation, request: Request, command: Decide, case: Case) -> Refusal | None:
    """None when this command may decide the request, whatever it says, else why not."""
    if command.request_type not in (None, request.request_type):
        return WrongRequest(
            f"the request is of type {request.request_type}: send the decision to that URL", "requestId"
        )
    refused = _not_entitled(organisation, request, command.actor, case)
    if refused is not None:
        return refused
    if command.digest_seen is not None and command.digest_seen != request.digest.hex():
        return ChangedSinceShown("the request is not the one that was shown: load it again and decide then")
    if request.requirement.comment and not command.message.strip():
        path = MESSAGE if command.request_type is not None else "comment"
        return InvalidPayload(f"{path} must say why: the policy asks for a comment on this request", path)
    return _check_reason(organisation, request.request_type, command)


def unknown_request(command: Decide) -> Refusal:
    """The refusal of a decision on nothing."""
    unknown = RequestNotFound if command.request_type is None else WrongRequest
    return unknown("no request of this organisation has that requestId", "requestId")


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


def has_spoken(request: Request, actor: Actor) -> bool:
    """Whether this person gave a voice before, whether or not it still counts."""
    return any(each.person_id == actor.person_id for each in request.decisions)


def holders(
    organisation: Organisation, request: Request, actor: Actor, wanted: str | None, case: Case
) -> tuple[str, ...] | Refusal:
    """Whose right this voice could use up. Of a voice that counts, both people have none left; of a lapsed one not."""
    person_id = actor.person_id or ""
    given_before = [each for each in request.decisions if counts(organisation, request, each, case)]
    used = delegations.used_up((each.person_id, each.on_behalf_of) for each in given_before)
    if person_id in used:
        given = next(each for each in given_before if person_id in (each.person_id, each.on_behalf_of))
        who = "you have" if given.person_id == person_id else f"on your behalf {given.user_name} has"
        return AlreadyVoted(f"{who} already decided this request: it waits for another checker", "requestId")
    found = _holders(organisation, request, person_id, case)
    if wanted is not None and wanted not in found:
        return NotPermitted(f"{wanted} has delegated no right to you that covers this request", "onBehalfOf")
    free = tuple(each for each in found if each not in used and wanted in (None, each))
    if not free:
        return AlreadyVoted(f"the right that {found[0]} delegated to you is used up for this request", "requestId")
    return free


def _holders(organisation: Organisation, request: Request, person_id: str, case: Case) -> tuple[str, ...]:
    return access.holders(
        organisation,
        person_id,
        case.barred,
        unit_id=request.unit_id,
        request_type=request.request_type,
        points=request.points,
        now=case.now,
    )


def spoken(
    organisation: Organisation, request: Request, actor: Actor, wanted: str | None, case: Case
) -> tuple[str | None, bool] | Refusal:
    """With whose right the actor approves, and whether that is the last voice that is needed; or why it is of no use.

    Voices that had lapsed may count again: then anybody who has given one of them may say so, and that completes it
    without a further voice (None).
    """
    if case.maker_is_member:
        return SelfInterest("the maker is the member concerned, so nobody can approve this request: reject it")
    needs = request.requirement.needs
    earlier = counted(organisation, request, request.decisions, case)
    before = eligibility.assigned(organisation, needs, earlier, case)
    if None not in before and any(each.person_id == actor.person_id for each in earlier):
        return None, True
    free = holders(organisation, request, actor, wanted, case)
    if isinstance(free, Refusal):
        return free
    if None not in before:
        return free[0], True
    missing = eligibility.open_needs(needs, before)
    reached = sum(place.step <= missing[0].step for place in eligibility.places_of(needs))
    for holder in free:
        voice = Voice(actor.person_id or "", holder)
        after = eligibility.assigned(organisation, needs, [*earlier, voice], case)
        if after[:reached].count(None) < before[:reached].count(None):
            return holder, None not in after
    told = " or ".join(dict.fromkeys(describe_need(replace(need, count=1)) for need in missing))
    return NotNeeded(f"your voice is not needed now: the request waits for {told}")


def counts(organisation: Organisation, request: Request, decision: Decision, case: Case) -> bool:
    """Whether the right that was used is still there: a lent one only as long as it is lent.

    An approval must also be one that a need asks for, and a later voice of either person has taken its place.
    """
    people = {decision.person_id, decision.on_behalf_of or decision.person_id}
    later = request.decisions[request.decisions.index(decision) + 1 :]
    if any(people & {each.person_id, each.on_behalf_of} for each in later):
        return False
    voice = Voice(decision.person_id, decision.on_behalf_of or decision.person_id)
    return voice.holder_id in _holders(organisation, request, voice.person_id, case) and (
        decision.verdict == "rejected"
        or any(eligibility.fits(organisation, voice, need, case) for need in request.requirement.needs)
    )


def counted(organisation: Organisation, request: Request, decisions: Iterable[Decision], case: Case) -> list[Voice]:
    """The approvals that can count now."""
    return eligibility.voices_of(each for each in decisions if counts(organisation, request, each, case))
