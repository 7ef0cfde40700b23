"""How far a person's rights reach, as sets of units that a list can be read by.

What a reach leaves out is out; what is in it is judged request by request, by the rule that the write path uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from counterfoil.domain.access import Actor, Grant, Right
from counterfoil.domain.organisations import Delegation, Organisation

UNLIMITED: Final = 2**63 - 1
NOWHERE: Final = -1
# The clock that the caller read is not the database's: a grant that begins or ends right now is let through.
_CLOCKS_DIFFER: Final = timedelta(hours=1)


class Reach(Struct, frozen=True):
    """Where a person may decide, and up to how many points; `everywhere` is for the whole organisation."""

    everywhere: int = NOWHERE
    units: Mapping[int, int] = field(default_factory=dict)
    types: frozenset[str] | None = None  # None: all
    is_lent: bool = False  # whether others lend the person anything, who may then speak anew when a voice has lapsed


def reach(organisation: Organisation, person_id: str | None, now: datetime) -> Reach:
    """Where the person may decide at all: nothing that `may_decide` allows lies outside."""
    everywhere, units, types = NOWHERE, dict[int, int](), set[str | None]()
    for grant, below in _held(organisation, person_id):
        if grant.access_right is not Right.CHECK or not (
            (grant.valid_from is None or grant.valid_from <= now + _CLOCKS_DIFFER)
            and (grant.valid_until is None or now - _CLOCKS_DIFFER < grant.valid_until)
        ):
            continue
        points_max = UNLIMITED if grant.points_max is None else grant.points_max
        types.add(grant.request_type)
        if below is None:
            everywhere = max(everywhere, points_max)
            continue
        for unit_id in below:
            if units.get(unit_id, NOWHERE) < points_max:
                units[unit_id] = points_max
    known = frozenset(each for each in types if each is not None)
    return Reach(
        everywhere,
        {} if everywhere == UNLIMITED else units,
        None if None in types else known,
        bool(organisation.delegations_to.get(person_id or "")),
    )


def readable_units(organisation: Organisation, actor: Actor, now: datetime) -> frozenset[int] | None:
    """The units whose requests the actor may read: those where they hold any right; None for all units."""
    if organisation.read_scope == "organisation":
        return None
    found: set[int] = set()
    for grant, below in _held(organisation, actor.person_id):
        if grant.is_valid(now):
            if below is None:
                return None
            found |= below
    return frozenset(found)


def may_read(organisation: Organisation, actor: Actor, unit_id: int | None, now: datetime) -> bool:
    """Whether the actor may read the requests made at this unit."""
    readable = readable_units(organisation, actor, now)
    return readable is None or unit_id in readable


def _held(organisation: Organisation, person_id: str | None) -> Iterator[tuple[Grant, frozenset[int] | None]]:
    """The grants of an active person and what is lent to them, each with its units (None: all)."""
    if person_id is None or not organisation.is_active(person_id):
        return
    for grant in organisation.grants_of_person.get(person_id, ()):
        yield grant, _below(organisation, grant.unit_id)
    for lent in organisation.delegations_to.get(person_id, ()):
        if organisation.is_active(lent.delegator_id) and lent.ended_at is None:
            yield from _lent(organisation, lent)


def _below(organisation: Organisation, unit_id: int | None) -> frozenset[int] | None:
    return None if unit_id is None else organisation.below(unit_id)


def _lent(organisation: Organisation, lent: Delegation) -> Iterator[tuple[Grant, frozenset[int] | None]]:
    """The deciding rights that an active person lends: where they have them and lend them."""
    for grant in organisation.grants_of_person.get(lent.delegator_id, ()):
        if grant.access_right is not Right.CHECK:
            continue
        if None not in (grant.request_type, lent.request_type) and grant.request_type != lent.request_type:
            continue
        limits = [each for each in (grant.points_max, lent.points_max) if each is not None]
        ends = [each for each in (grant.valid_until, lent.valid_until) if each is not None]
        own, within = (_below(organisation, each.unit_id) for each in (grant, lent))
        yield (
            replace(
                grant,
                request_type=grant.request_type or lent.request_type,
                points_max=min(limits, default=None),
                valid_from=max(grant.valid_from or lent.valid_from, lent.valid_from),
                valid_until=min(ends),
            ),
            within if own is None else own if within is None else own & within,
        )
