"""Why a person may or may not make or decide a request somewhere, and who else could: the rules' own answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from counterfoil.domain.access import Grant, Right, has_right, units_above
from counterfoil.domain.eligibility import Case, can_be_met, candidates, maker_stores
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payload_types import TYPES
from counterfoil.domain.payloads import points_text
from counterfoil.domain.policies import describe_needs


@dataclass(frozen=True, slots=True)
class Question:
    """Whether somebody may do something there; points in thousandths."""

    person_id: str
    unit_id: int
    request_type: str
    points: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer for one right; each reason is one grant, or the part that is missing."""

    right: Right
    is_allowed: bool
    reasons: tuple[str, ...]
    others: tuple[str, ...]


def explain(organisation: Organisation, asked: Question) -> tuple[Explanation, Explanation]:
    """Both rights of a person at a unit."""
    return _explain(organisation, asked, Right.MAKE), _explain(organisation, asked, Right.CHECK)


def _explain(organisation: Organisation, asked: Question, right: Right) -> Explanation:
    is_allowed = _holds(organisation, asked.person_id, asked, right)
    others = tuple(
        person_id
        for person_id in sorted(organisation.people)
        if person_id != asked.person_id and _holds(organisation, person_id, asked, right)
    )
    return Explanation(right, is_allowed, tuple(_reasons(organisation, asked, right)), others)


def _holds(organisation: Organisation, person_id: str, asked: Question, right: Right) -> bool:
    return has_right(
        organisation, person_id, right,
        unit_id=asked.unit_id, request_type=asked.request_type, points=asked.points, now=asked.at,
    )  # fmt: skip


def _reasons(organisation: Organisation, asked: Question, right: Right) -> Iterator[str]:
    person = organisation.people.get(asked.person_id)
    if person is None:
        yield f"there is no person {asked.person_id}"
        return
    if not person.active:
        yield f"{asked.person_id} is not active"
    if right is Right.CHECK and asked.person_id not in organisation.people_with_user:
        yield f"{asked.person_id} has no active user, so they cannot sign in to decide"
    unit = organisation.units.get(asked.unit_id)
    if unit is None:
        yield f"there is no unit {asked.unit_id}"
    elif not unit.active and right is Right.MAKE:
        yield f"unit {asked.unit_id} is closed: no request can be made there; those that were can be decided"
    grants = [each for each in organisation.grants_of_person.get(asked.person_id, ()) if each.access_right is right]
    if not grants:
        yield f"{asked.person_id} has no grant of {right}, neither of their own nor through a group"
    for grant in grants:
        missing = list(_missing(organisation, grant, asked))
        told = f"{right} {_where(grant)}{_through(grant)}"
        yield f"{told}: {'; '.join(missing)}" if missing else f"{told}: covers it"


def _where(grant: Grant) -> str:
    return "for the whole organisation" if grant.unit_id is None else f"at unit {grant.unit_id}"


def _through(grant: Grant) -> str:
    return f" through the group {grant.group_id}" if grant.group_id else ""


def _missing(organisation: Organisation, grant: Grant, asked: Question) -> Iterator[str]:
    """Each part of the grant that does not fit."""
    if grant.unit_id is not None and grant.unit_id not in units_above(organisation.units, asked.unit_id):
        yield f"unit {asked.unit_id} is not below it"
    if grant.request_type not in (None, asked.request_type):
        yield f"only for {grant.request_type}"
    if grant.points_max is not None and asked.points > grant.points_max:
        yield f"only up to {points_text(grant.points_max)} points"
    if grant.valid_from is not None and asked.at < grant.valid_from:
        yield f"begins {grant.valid_from.isoformat()}"
    if grant.valid_until is not None and asked.at >= grant.valid_until:
        yield f"ended {grant.valid_until.isoformat()}"


@dataclass(frozen=True, slots=True)
class BothRights:
    """A person who may make and decide in the same places; the highest of these."""

    person_id: str
    unit_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WithoutChecker:
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
                    and (g.valid_from is None or g.valid_from <= at) and (g.valid_until is None or at < g.valid_until)}
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
    """Open tills, and stores without one, where a maker's requests would be refused because nobody could decide."""
    stores = {unit.store_id for unit in organisation.units.values() if unit.active}
    makers = sorted({grant.person_id for grant in organisation.personal_grants() if grant.access_right is Right.MAKE})
    for unit in sorted(organisation.units.values(), key=lambda each: each.unit_id):
        if not unit.active or unit.kind.value not in ("till", "store") or unit.unit_id in stores:
            continue
        for person_id in makers:
            yield from _without_checker(organisation, unit.unit_id, person_id, at)


def _without_checker(
    organisation: Organisation, unit_id: int, person_id: str, at: datetime
) -> Iterator[WithoutChecker]:
    """The first rule for each type that nobody could meet for this maker."""
    for kind in TYPES:
        for _, rule in organisation.rules:
            points = max(1, (rule.when.above or 0) + 1)
            asked = Question(person_id, unit_id, kind, points, at)
            if (rule.when.types and kind not in rule.when.types) or not _holds(
                organisation, person_id, asked, Right.MAKE
            ):
                continue
            if rule.when.units and not set(rule.when.units) & organisation.above(unit_id):
                continue
            stores = maker_stores(organisation, rule.needs, person_id, at)
            case = Case(unit_id, kind, points, frozenset({person_id}), at, stores)
            if not can_be_met(organisation, rule.needs, case):
                able = [each for each in candidates(organisation, unit_id) if each != person_id]
                told = f"it needs {describe_needs(rule.needs)}; others with a right to decide there: "
                yield WithoutChecker(unit_id, person_id, kind, rule.name, told + (", ".join(able) or "nobody"))
                break
