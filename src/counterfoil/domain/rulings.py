"""What the policy asks of one request: its rule, the caps it meets, and whether anybody else must agree at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain import access, attribution
from counterfoil.domain.access import Actor, Place
from counterfoil.domain.conditions import Facts, asks_for_time, minute_of_week
from counterfoil.domain.eligibility import Case, can_be_met, candidates, maker_stores
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import points_text
from counterfoil.domain.policies import Cap, CapSubject, Need, PairCap, Requirement, Rule, auto_counters, describe_needs
from counterfoil.domain.refusals import BadGoodwillPoints, CapReached, NobodyCanCheck, Refusal, SelfInterest

GOODWILL = "GOODWILL-POINTS"


class Tally(Struct, frozen=True):
    """A counter under lock: the points of a cap, a subject and a day so far."""

    subject: str
    day: date
    points: int


class CapUse(Struct, frozen=True):
    """A counter that a request's points are counted in, until it ends without effect."""

    cap: str
    subject: str
    day: date


class Ruling(Struct, frozen=True):
    """What is frozen on the request. `auto_rule`: the rule that approves it at once, without a checker."""

    requirement: Requirement
    expires_at: datetime | None = None
    uses: tuple[CapUse, ...] = ()
    auto_rule: str | None = None


@dataclass(slots=True)
class _Caps:
    """What the caps say about one request."""

    uses: list[CapUse] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    pairs: list[PairCap] = field(default_factory=list)


def facts_of(organisation: Organisation, maker: str, login: str, unit_id: int, kind: str, points: int,
             now: datetime | None) -> Facts:  # fmt: skip
    """What conditions are asked about; `now` None where no condition of the policy asks for the time."""
    minute = minute_of_week(now, organisation.zone) if now is not None and organisation.asks_for_time else 0
    groups = organisation.groups_of.get(maker, frozenset())
    return Facts(kind, organisation.above(unit_id), points, groups, login, minute)


def rule_for(organisation: Organisation, facts: Facts) -> Rule | None:
    """The first rule that applies."""
    for test, rule in organisation.rules:
        if test(facts):
            return rule
    return None


def counters_wanted(organisation: Organisation, actor: Actor, place: Place, kind: str, points: int) -> Iterator[Cap]:
    """The counters that may have to be read for this request, before the time is known.

    Where a condition asks for the time it is taken as met: one counter too many is harmless.
    """
    policy = organisation.policy
    if policy is None or not (policy.caps or any(rule.auto for rule in policy.rules)):
        return
    facts = facts_of(organisation, actor.person_id or "", actor.login, place.unit_id, kind, points, None)
    for cap in policy.caps:
        if cap.per not in (CapSubject.REQUEST, CapSubject.PAIR) and (
            asks_for_time(cap.when) or organisation.cap_tests[cap.name](facts)
        ):
            yield cap
    for test, rule in organisation.rules:
        timed = asks_for_time(rule.when)
        if timed or test(facts):
            yield from auto_counters(rule)
            if not timed:
                return


def may_submit(
    organisation: Organisation,
    actor: Actor,
    place: Place,
    request_type: str,
    asked_points: int | None,
    now: datetime,
    *,
    concerned: frozenset[str] = frozenset(),
    tallies: Mapping[str, Tally] | None = None,
    may_be_automatic: bool = False,
) -> Ruling | Refusal:
    """Say what must be agreed for this request, or refuse it with the reason.

    `concerned` are the people who are the member themselves; `tallies` the counters by cap; only a request without
    any flag `may_be_automatic`.
    """
    refused = attribution.why_not_at(organisation, actor.login, place.unit_id) or access.may_make(
        organisation, actor, place, request_type, asked_points, now
    )
    if refused is not None:
        return refused
    points = asked_points or 0  # bands and caps take what has no points for none
    maker = actor.person_id or ""
    if maker in concerned:
        return SelfInterest(f"{actor.user_name} is the member concerned and cannot make this request: ask another")
    facts = facts_of(organisation, maker, actor.login, place.unit_id, request_type, points, now)
    rule = rule_for(organisation, facts)
    if rule is None:
        return NobodyCanCheck("no rule of the policy applies to this request, so nobody could decide it")
    caps = _Caps()
    refused = _count(organisation, facts, tallies or {}, caps)
    if refused is not None:
        return refused
    auto = None if caps.needs or not may_be_automatic else _automatic(rule, asked_points, tallies or {})
    needs = (*rule.needs, *caps.needs) if caps.needs else rule.needs
    if auto is None:
        case = Case(
            place.unit_id, request_type, asked_points, concerned | {maker}, now,
            maker_stores(organisation, needs, maker, now),
        )  # fmt: skip
        refused = nobody_can_check(organisation, needs, case)
        if refused is not None:
            return refused
    return Ruling(
        Requirement(needs, rule.name, rule.comment_above is not None and points > rule.comment_above,
                    tuple(caps.pairs)),
        None if rule.life_hours is None else now + timedelta(hours=rule.life_hours),
        (*caps.uses, *(auto or ())),
        None if auto is None else rule.name,
    )  # fmt: skip


def nobody_can_check(organisation: Organisation, needs: tuple[Need, ...], case: Case) -> Refusal | None:
    """Refuse what different people other than the maker could not agree to together, and say if that will end."""
    if can_be_met(organisation, needs, case):
        return None
    who = f"it needs {describe_needs(needs)}, all different active people other than the maker, with a user and with "
    who += f"CanCheckRequest at unit {case.unit_id} or above it"
    ends = {organisation.people[each].suspended_until for each in candidates(organisation, case.unit_id)}
    for end in sorted(each for each in ends if each is not None and each > case.now):
        if can_be_met(organisation, needs, replace(case, now=end)):
            until = f"{end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            return NobodyCanCheck(
                f"nobody can decide this request before {until}, for people are suspended: {who}. Make it again then"
            )
    return NobodyCanCheck(f"nobody could ever decide this request: {who}")


def _count(organisation: Organisation, facts: Facts, tallies: Mapping[str, Tally], caps: _Caps) -> Refusal | None:
    """Go through the caps that apply: what they count, what they add, what they refuse."""
    for cap in organisation.policy.caps if organisation.policy else ():
        if not organisation.cap_tests[cap.name](facts):
            continue
        used = 0
        if cap.per is CapSubject.PAIR:
            caps.pairs.append(PairCap(cap.name, cap.points))
            continue
        if cap.per is not CapSubject.REQUEST:
            tally = tallies[cap.name]
            caps.uses.append(CapUse(cap.name, tally.subject, tally.day))
            used = tally.points
        if used + facts.points <= cap.points:
            continue
        if not cap.needs:
            return _refused(cap, facts, used)
        caps.needs.extend(cap.needs)
    return None


Pairs = Mapping[tuple[str, str], int]  # by cap and subject: the points of today; what is not in it has none
NO_PAIRS: Final[Pairs] = {}


def pair_subject(maker_person_id: str, checker_person_id: str) -> str:
    """How a maker and a checker together are counted."""
    return f"{maker_person_id} | {checker_person_id}"


def pair_uses(
    requirement: Requirement, points: int | None, checker: str, tallies: Mapping[str, Tally]
) -> tuple[CapUse, ...] | CapReached:
    """The counters of maker and checker together that a voice of this checker is counted in."""
    uses: list[CapUse] = []
    for cap in requirement.pair_caps:
        tally = tallies[cap.name]
        if tally.points + (points or 0) > cap.points:
            left = points_text(max(0, cap.points - tally.points))
            return CapReached(
                f"the cap {cap.name} leaves {left} points that {checker} may approve today for this maker: "
                "ask another checker"
            )
        uses.append(CapUse(cap.name, tally.subject, tally.day))
    return tuple(uses)


def pair_tallies(
    requirement: Requirement, maker_person_id: str, checker_person_id: str, pairs: Pairs, day: date
) -> dict[str, Tally]:
    """The same counters as they were read without a lock."""
    subject = pair_subject(maker_person_id, checker_person_id)
    return {cap.name: Tally(subject, day, pairs.get((cap.name, subject), 0)) for cap in requirement.pair_caps}


def _refused(cap: Cap, facts: Facts, used: int) -> Refusal:
    left = points_text(max(0, cap.points - used))
    whose = {"request": "a request", "member": "this member today", "maker": "you today"}.get(cap.per, "all today")
    told = f"the cap {cap.name} leaves {left} points for {whose}: ask for at most that, or for another day"
    return BadGoodwillPoints(told) if facts.request_type == GOODWILL else CapReached(told)


def _automatic(rule: Rule, points: int | None, tallies: Mapping[str, Tally]) -> tuple[CapUse, ...] | None:
    """The counters of an approval without a second person, or None where a checker must agree.

    What has no points no cap would bound: a checker must always agree.
    """
    if rule.auto is None or points is None or points > rule.auto.per_request:
        return None
    uses: list[CapUse] = []
    for cap in auto_counters(rule):
        tally = tallies.get(cap.name)
        if tally is None or tally.points + points > cap.points:
            return None
        uses.append(CapUse(cap.name, tally.subject, tally.day))
    return tuple(uses)
