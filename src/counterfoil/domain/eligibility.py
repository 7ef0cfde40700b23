"""Who can meet a requirement, and whether voices have met it: always different people, never the maker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from counterfoil.domain.matching import assign
from counterfoil.domain.policies import Level, Need

if TYPE_CHECKING:
    from counterfoil.domain.access import Grant
    from counterfoil.domain.organisations import Organisation


class Case(Struct, frozen=True):
    """A request as far as it matters who may decide it. `barred` are the maker and whoever is concerned.

    `maker_stores` are those of the maker, where a need asks for others. `maker_is_member`: the maker has turned out to
    be concerned, so that nobody may approve it any more.
    """

    unit_id: int
    request_type: str
    points: int | None
    barred: frozenset[str]
    now: datetime
    maker_stores: frozenset[int] = frozenset()
    maker_is_member: bool = False


class Voice(Struct, frozen=True):
    """An approval given by one person with the rights of another (mostly the same)."""

    person_id: str
    holder_id: str


class Spoken(Protocol):
    """What a decision tells about its voice."""

    @property
    def person_id(self) -> str:
        """Who decided."""

    @property
    def on_behalf_of(self) -> str | None:
        """Whose right it used; None: their own."""

    @property
    def verdict(self) -> str:
        """Whether they approved or rejected."""


def voices_of(decisions: Iterable[Spoken]) -> list[Voice]:
    """The approvals among decisions: the one place that knows with whose rights a voice was given."""
    return [
        Voice(each.person_id, each.on_behalf_of or each.person_id) for each in decisions if each.verdict == "approved"
    ]


def places_of(needs: Sequence[Need]) -> list[Need]:
    """One place for each person that is needed, the steps in their order."""
    return [need for need in sorted(needs, key=lambda need: need.step) for _ in range(need.count)]


def assigned(
    organisation: Organisation, needs: Sequence[Need], voices: Sequence[Voice], case: Case
) -> list[Voice | None]:
    """Which voice counts for which place; a voice whose owner is not entitled any more counts for none."""
    options = {need: [each for each in voices if fits(organisation, each, need, case)] for need in set(needs)}
    return assign([options[need] for need in places_of(needs)])


def fits(organisation: Organisation, voice: Voice, need: Need, case: Case) -> bool:
    """Whether this voice is one that this need asks for, now."""
    return can_fill(organisation, voice.holder_id, need, case) and (
        voice.person_id == voice.holder_id or _may_stand_in(organisation, voice, need, case)
    )


def open_needs(needs: Sequence[Need], filled: Sequence[Voice | None]) -> list[Need]:
    """The needs of the current step that still miss somebody, once for each person that is missing."""
    missing = [need for need, voice in zip(places_of(needs), filled, strict=True) if voice is None]
    return [need for need in missing if need.step == missing[0].step]


def can_fill(organisation: Organisation, person_id: str, need: Need, case: Case) -> bool:
    """Whether the person may give the voice that this need asks for, now."""
    if person_id in case.barred or not organisation.may_have_a_voice(person_id, case.now):
        return False
    places = organisation.above(case.unit_id)
    return any(
        (grant.unit_id is None or grant.unit_id in places)
        and grant.covers(case.request_type, case.points, case.now)
        and (need.level is None or _reaches(organisation, grant, need.level))
        for grant in organisation.check_grants_of.get(person_id, ())
    ) and _narrowed(organisation, person_id, need, case)


def _narrowed(organisation: Organisation, person_id: str, need: Need, case: Case) -> bool:
    """The parts of a need that are about the person, not about the grant."""
    if need.group is not None and need.group not in organisation.groups_of.get(person_id, ()):
        return False
    return not need.other_store or not _is_of_store(organisation, person_id, case)


def _may_stand_in(organisation: Organisation, voice: Voice, need: Need, case: Case) -> bool:
    """Whether who uses a lent right is fit for it themselves: no right makes a stranger of one of the very store."""
    return (
        voice.person_id not in case.barred
        and organisation.may_have_a_voice(voice.person_id, case.now)
        and not (need.other_store and _is_of_store(organisation, voice.person_id, case))
    )


def _reaches(organisation: Organisation, grant: Grant, level: Level) -> bool:
    """Whether the grant is at this level or above it."""
    if grant.unit_id is None:
        return True
    unit = organisation.units.get(grant.unit_id)
    kind = None if unit is None else unit.kind.value
    return kind == level.value or (level is Level.STORE and kind in ("zone", "concept"))


def store_of(organisation: Organisation, unit_id: int) -> int | None:
    """The store of a till, the store itself; None for a zone or concept."""
    unit = organisation.units.get(unit_id)
    if unit is None:
        return None
    return unit.store_id if unit.kind.value == "till" else unit.unit_id if unit.kind.value == "store" else None


def maker_stores(organisation: Organisation, needs: Iterable[Need], maker: str, now: datetime) -> frozenset[int]:
    """The stores that the maker makes requests for, where a need is about another store: the maker chooses the unit."""
    if not any(need.other_store for need in needs):
        return frozenset()
    return _stores(
        organisation,
        (
            grant
            for grant in organisation.grants_of_person.get(maker, ())
            if grant.access_right.value == "CanMakeRequest" and grant.is_valid(now)
        ),
    )


def _stores(organisation: Organisation, grants: Iterable[Grant]) -> frozenset[int]:
    """The stores that grants are given at, or at a till of; a zone or concept is none."""
    found = (store_of(organisation, grant.unit_id) for grant in grants if grant.unit_id is not None)
    return frozenset(store for store in found if store is not None)


def _near(organisation: Organisation, case: Case) -> frozenset[int | None]:
    """The stores that are no other store: the request's own, and those of its maker."""
    return case.maker_stores | {store_of(organisation, case.unit_id)}


def _is_of_store(organisation: Organisation, person_id: str, case: Case) -> bool:
    """Whoever holds any grant at such a store or at one of its tills is of that store."""
    held = (grant for grant in organisation.grants_of_person.get(person_id, ()) if grant.is_valid(case.now))
    return not _near(organisation, case).isdisjoint(_stores(organisation, held))


def eligible(organisation: Organisation, need: Need, case: Case) -> list[str]:
    """Everybody with a user of their own who could fill this need."""
    return [
        person_id
        for person_id in candidates(organisation, case.unit_id)
        if can_fill(organisation, person_id, need, case)
    ]


def candidates(organisation: Organisation, unit_id: int) -> Iterator[str]:
    """Each person with a user and with any right to decide there, once."""
    seen: set[str] = set()
    for place in (None, *organisation.above(unit_id)):
        for grant in organisation.check_grants_at.get(place, ()):
            if grant.person_id not in seen and grant.person_id in organisation.people_with_user:
                seen.add(grant.person_id)
                yield grant.person_id


def can_be_met(organisation: Organisation, needs: tuple[Need, ...], case: Case) -> bool:
    """Whether enough different people other than the barred could ever fill all needs together.

    What most requests of a place have in common is worked out once per snapshot: the grants that hold at any time
    and for any amount. Only where these are not enough without the barred is everything looked at.
    """
    if not needs or any(need.count < 1 for need in needs):
        return False
    key = (case.unit_id, case.request_type, needs, case.maker_stores)
    known = organisation.indispensable.get(key, _UNKNOWN)
    if known is _UNKNOWN:
        known = organisation.indispensable[key] = _indispensable(organisation, needs, case)
    if known is not None and len(case.barred) == 1 and known.isdisjoint(case.barred):
        return True
    options = {need: eligible(organisation, need, case) for need in set(needs)}
    return None not in assign([options[need] for need in places_of(needs)])


_UNKNOWN: frozenset[str] | None = frozenset({"unknown"})


def _indispensable(organisation: Organisation, needs: tuple[Need, ...], case: Case) -> frozenset[str] | None:
    """Without whom the needs could not be met by unconditional grants; None when they cannot be met at all."""
    options = {need: _unconditional(organisation, need, case) for need in set(needs)}
    places = [options[need] for need in places_of(needs)]
    filled = assign(places)
    if None in filled:
        return None
    return frozenset(
        person_id
        for person_id in filled
        if person_id is not None and None in assign([[each for each in place if each != person_id] for place in places])
    )


def _unconditional(organisation: Organisation, need: Need, case: Case) -> list[str]:
    """Who can fill a need whatever the time and the amount are.

    A grant at the store that begins or ends may turn somebody into one of that store: such people do not count.
    """
    places, near = organisation.above(case.unit_id), _near(organisation, case)
    found = []
    for person_id in candidates(organisation, case.unit_id):
        if person_id in organisation.administrator_grants or organisation.people[person_id].suspended_until is not None:
            continue
        held = any(
            (grant.unit_id is None or grant.unit_id in places)
            and grant.points_max is None
            and grant.valid_from is None
            and grant.valid_until is None
            and grant.request_type in (None, case.request_type)
            and (need.level is None or _reaches(organisation, grant, need.level))
            for grant in organisation.check_grants_of.get(person_id, ())
        )
        grants = organisation.grants_of_person.get(person_id, ())
        of_store = need.other_store and not near.isdisjoint(_stores(organisation, grants))
        if held and not of_store and (need.group is None or need.group in organisation.groups_of.get(person_id, ())):
            found.append(person_id)
    return found
