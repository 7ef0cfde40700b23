"""Why a person may or may not make or decide a request somewhere, and who else could: the rules' own answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from counterfoil.domain import access, proofs, rulings
from counterfoil.domain.access import Actor, Grant, Place, Right, units_above
from counterfoil.domain.conditions import WEEK_MINUTES, minute_of_week
from counterfoil.domain.eligibility import candidates
from counterfoil.domain.organisations import Delegation, Organisation
from counterfoil.domain.payload_types import TYPES, WITH_POINTS
from counterfoil.domain.payloads import points_text
from counterfoil.domain.policies import Rule
from counterfoil.domain.proofs import OTHER_LOGIN, Region
from counterfoil.domain.refusals import NobodyCanCheck
from counterfoil.domain.rulings import Tally


class Question(Struct, frozen=True):
    """Whether somebody may do something there; points in thousandths."""

    person_id: str
    unit_id: int
    request_type: str
    points: int
    at: datetime

    @property
    def amount(self) -> int | None:
        """The points as a request has them: None for the types that have none."""
        return self.points if self.request_type in WITH_POINTS else None


class Explanation(Struct, frozen=True):
    """The answer for one right; each reason is one grant, or the part that is missing."""

    right: Right
    is_allowed: bool
    reasons: tuple[str, ...]
    others: tuple[str, ...]


def explain(organisation: Organisation, asked: Question) -> tuple[Explanation, Explanation]:
    """Both rights of a person at a unit."""
    return _explain(organisation, asked, Right.MAKE), _explain(organisation, asked, Right.CHECK)


def _explain(organisation: Organisation, asked: Question, right: Right) -> Explanation:
    others = tuple(
        person_id
        for person_id in sorted(organisation.people)
        if person_id != asked.person_id and _is_allowed(organisation, person_id, asked, right)
    )
    is_allowed = _is_allowed(organisation, asked.person_id, asked, right)
    return Explanation(right, is_allowed, tuple(_reasons(organisation, asked, right)), others)


def _is_allowed(organisation: Organisation, person_id: str, asked: Question, right: Right) -> bool:
    """What a submission, or a decision about somebody else's request, would be told."""
    if next(_obstacles(organisation, person_id, asked, right), None) is not None:
        return False
    if right is Right.CHECK:
        refused = access.may_decide(
            organisation, _actor(organisation, person_id), "",
            unit_id=asked.unit_id, request_type=asked.request_type, points=asked.amount, now=asked.at,
        )  # fmt: skip
    else:
        refused = access.may_make(
            organisation, _actor(organisation, person_id), _place(asked.unit_id), asked.request_type, asked.amount,
            asked.at,
        )  # fmt: skip
    return refused is None


def _actor(organisation: Organisation, person_id: str, login: str = "") -> Actor:
    has_user = person_id in organisation.people_with_user
    return Actor(organisation.org_id, organisation.version, login, frozenset(), person_id, 0, person_id, has_user)


def _place(unit_id: int) -> Place:
    return Place(unit_id, None, None, None, None)


def _obstacles(organisation: Organisation, person_id: str, asked: Question, right: Right) -> Iterator[str]:
    """What no grant helps against."""
    person, unit = organisation.people.get(person_id), organisation.units.get(asked.unit_id)
    if person is None:
        yield f"there is no person {person_id}"
        return
    if not person.active:
        yield f"{person_id} is not active"
    can_sign_in = person_id in organisation.people_with_user
    if right is Right.CHECK and not can_sign_in:
        yield f"{person_id} has no active user, so they cannot sign in to decide"
    if right is Right.MAKE and not (can_sign_in or _is_called_for(organisation, person_id)):
        yield f"{person_id} has no active user and answers for no calling system, so they cannot make a request"
    refused = access.why_not_check(organisation, person, asked.at) if right is Right.CHECK else None
    if refused is not None:
        yield refused.message
    if unit is None:
        yield f"there is no unit {asked.unit_id}"
    elif not unit.active and right is Right.MAKE:
        yield f"unit {asked.unit_id} is closed: no request can be made there; those that were can be decided"
    if organisation.policy is None and right is Right.MAKE:
        yield "the organisation has no policy, so nothing can be requested"


def _is_called_for(organisation: Organisation, person_id: str) -> bool:
    return any(each.active and each.person_id == person_id for each in organisation.credentials.values())


def _reasons(organisation: Organisation, asked: Question, right: Right) -> Iterator[str]:
    obstacles = [*_obstacles(organisation, asked.person_id, asked, right)]
    yield from obstacles
    if asked.person_id not in organisation.people:
        return
    fits = "would cover it" if obstacles else "covers it"
    grants = [each for each in organisation.grants_of_person.get(asked.person_id, ()) if each.access_right is right]
    if not grants:
        yield f"{asked.person_id} has no grant of {right}, neither of their own nor through a group"
    for grant in grants:
        missing = "; ".join(_missing(organisation, grant, asked))
        yield f"{right} {_where(grant)}{_through(grant)}: {missing or fits}"
    for lent in organisation.delegations_to.get(asked.person_id, ()) if right is Right.CHECK else ():
        lender = lent.delegator_id
        missing = "; ".join(_missing(organisation, lent, asked)) or (
            "" if _holds(organisation, lender, asked) else f"{lender} may not decide that now, so cannot lend it"
        )
        yield f"{right} {_where(lent)} lent by {lender}: {missing or fits}"


def _holds(organisation: Organisation, person_id: str, asked: Question) -> bool:
    """Whether somebody has the deciding right that they lend."""
    return access.has_right(
        organisation, person_id, Right.CHECK,
        unit_id=asked.unit_id, request_type=asked.request_type, points=asked.amount, now=asked.at,
    )  # fmt: skip


def _where(grant: Grant | Delegation) -> str:
    return "for the whole organisation" if grant.unit_id is None else f"at unit {grant.unit_id}"


def _through(grant: Grant) -> str:
    return f" through the group {grant.group_id}" if grant.group_id else ""


def _missing(organisation: Organisation, grant: Grant | Delegation, asked: Question) -> Iterator[str]:
    """Each part of the grant that does not fit."""
    if isinstance(grant, Delegation) and grant.ended_at is not None:
        yield f"was ended {grant.ended_at.isoformat()}"
    if grant.unit_id is not None and grant.unit_id not in units_above(organisation.units, asked.unit_id):
        yield f"unit {asked.unit_id} is not below it"
    if grant.request_type not in (None, asked.request_type):
        yield f"only for {grant.request_type}"
    if grant.points_max is not None and asked.amount is None:
        yield f"only up to {points_text(grant.points_max)} points, and {asked.request_type} has none"
    elif grant.points_max is not None and asked.points > grant.points_max:
        yield f"only up to {points_text(grant.points_max)} points"
    if grant.valid_from is not None and asked.at < grant.valid_from:
        yield f"begins {grant.valid_from.isoformat()}"
    if grant.valid_until is not None and asked.at >= grant.valid_until:
        yield f"ended {grant.valid_until.isoformat()}"


class BothRights(Struct, frozen=True):
    """A person who may make and decide in the same places; the highest of these."""

    person_id: str
    unit_ids: tuple[int, ...]


class WithoutChecker(Struct, frozen=True):
    """A maker for whom nobody could decide what they may ask for, there, by the policy's rule."""

    unit_id: int
    person_id: str
    request_type: str
    rule: str
    reason: str


def both_rights(organisation: Organisation, at: datetime) -> Iterator[BothRights]:
    """The four eyes stay two people, but such a pair of rights is one login away from trouble: to be looked at."""
    units = organisation.units
    for person_id in sorted(organisation.people):
        if not organisation.is_active(person_id):
            continue
        held = {
            right: {g.unit_id for g in organisation.grants_of_person.get(person_id, ()) if g.access_right is right
                    and g.is_valid(at)}
            for right in (Right.MAKE, Right.CHECK)
        }  # fmt: skip
        if not (held[Right.MAKE] and held[Right.CHECK]):
            continue
        both = {
            unit_id
            for unit_id in units
            if all({None, *organisation.above(unit_id)} & places for places in held.values())
        }
        highest = tuple(sorted(each for each in both if not (organisation.above(each) - {each}) & both))
        if highest:
            yield BothRights(person_id, highest)


def without_checker(organisation: Organisation, at: datetime) -> Iterator[WithoutChecker]:
    """Open tills, and stores without one, where a maker's requests would be refused because nobody could decide.

    Everything that rules and caps tell apart is tried once: no more than `policy prove` looks at.
    """
    policy = organisation.policy
    if policy is None:
        return
    order = {rule.name: number for number, rule in enumerate(policy.ladder)}
    kinds = sorted(
        ((leaf.region, leaf.rule) for leaf in proofs.leaves(policy, organisation.units) if leaf.rule is not None),
        key=lambda each: (order[each[1].name], each[0].low),
    )
    stores = {unit.store_id for unit in organisation.units.values() if unit.active}
    makers = defaultdict[str, set[int | None]](set)
    for grant in organisation.personal_grants():
        if grant.access_right is Right.MAKE:
            makers[grant.person_id].add(grant.unit_id)
    for unit in sorted(organisation.units.values(), key=lambda each: each.unit_id):
        if not unit.active or unit.kind.value not in ("till", "store") or unit.unit_id in stores:
            continue
        for person_id in sorted(makers):
            if makers[person_id] & {None, *organisation.above(unit.unit_id)}:
                yield from _without_checker(organisation, unit.unit_id, person_id, kinds, at)


def _without_checker(
    organisation: Organisation, unit_id: int, person_id: str, kinds: Sequence[tuple[Region, Rule]], at: datetime
) -> Iterator[WithoutChecker]:
    """The first rule for each type that nobody could meet for this maker."""
    groups, above = organisation.groups_of.get(person_id, frozenset()), organisation.above(unit_id)
    for kind in TYPES:
        for region, rule in kinds:
            if kind not in region.types or above & region.named not in region.places:
                continue
            if any((group in groups) is not held for group, held in region.groups):
                continue
            refused = _refused(organisation, unit_id, person_id, kind, region, at)
            if refused is not None:
                able = [each for each in candidates(organisation, unit_id) if each != person_id]
                told = f"{refused.message}; others with a right to decide there: {', '.join(able) or 'nobody'}"
                yield WithoutChecker(unit_id, person_id, kind, rule.name, told)
                break


def _refused(
    organisation: Organisation, unit_id: int, person_id: str, kind: str, region: Region, at: datetime
) -> NobodyCanCheck | None:
    """What the smallest such request would be refused with (2021), where counters are at 0 and where they are full."""
    caps = organisation.policy.caps if organisation.policy else ()
    login = OTHER_LOGIN if OTHER_LOGIN in region.logins else min(region.logins)
    now = _moment(at, region.minutes, minute_of_week(at, organisation.zone))
    for is_full in (False, True) if any(cap.needs for cap in caps) else (False,):
        tallies = {cap.name: Tally("", at.date(), cap.points if is_full and cap.needs else 0) for cap in caps}
        ruling = rulings.may_submit(
            organisation, _actor(organisation, person_id, login), _place(unit_id), kind,
            region.low if kind in WITH_POINTS else None, now, tallies=tallies,
        )  # fmt: skip
        if isinstance(ruling, NobodyCanCheck):
            return ruling
    return None


def _moment(at: datetime, minutes: Sequence[tuple[int, int]], minute: int) -> datetime:
    """The first moment from `at` on that lies in such minutes of the week."""
    if any(start <= minute < end for start, end in minutes):
        return at
    return at + timedelta(minutes=min((start - minute) % WEEK_MINUTES for start, _ in minutes))
