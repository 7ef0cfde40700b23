"""Calls that a system makes for another till or store, which it names in headers (dossier §4).

An attribution changes the name under which a system without a user acts, and what the audit trail says. It adds
no right: the person, the rights and the recorded login stay those of the calling system.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from counterfoil.domain.access import Actor, OrgUnit, UnitKind
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import InvalidPayload, LookupTypeMissing, NotPermitted, Refusal

TILL: Final = "TILL"


@dataclass(frozen=True, slots=True)
class Named:
    """A unit as two headers name it; None where one was not sent."""

    kind_header: str
    header: str
    kind: str | None
    name: str | None


def _external_id(number: int) -> Callable[[OrgUnit], str | None]:
    return lambda unit: unit.external_ids[number] if number < len(unit.external_ids) else None


# The contract's words, the kind of unit each looks among, and what it compares.
_LOOKUPS: Final[Mapping[str, tuple[UnitKind, Callable[[OrgUnit], str | None]]]] = {
    TILL: (UnitKind.TILL, lambda unit: unit.code),
    "STORE_CODE": (UnitKind.STORE, lambda unit: unit.code),
    "STORE_NAME": (UnitKind.STORE, lambda unit: unit.name),
    "STORE_EXTERNAL_ID": (UnitKind.STORE, _external_id(0)),
    "STORE_EXTERNAL_ID_1": (UnitKind.STORE, _external_id(1)),
    "STORE_EXTERNAL_ID_2": (UnitKind.STORE, _external_id(2)),
}


def attribute(organisation: Organisation, actor: Actor, named: Sequence[Named]) -> Actor | Refusal:
    """The actor as one that calls for the unit named, or the refusal."""
    units: dict[int, OrgUnit] = {}
    for each in named:
        found = _find(organisation, each)
        if isinstance(found, Refusal):
            return found
        units[found.unit_id] = found
    if len(units) > 1:
        return InvalidPayload("the attribution headers name different units: send one of them", named[-1].header)
    for unit in units.values():
        within = organisation.credentials[actor.login]
        if within.is_client and within.unit_id is not None and within.unit_id not in organisation.above(unit.unit_id):
            return NotPermitted(
                f"the client {actor.login} may call for unit {within.unit_id} and those below it only", named[-1].header
            )
        if not actor.has_user:
            actor = replace(actor, user_id=unit.unit_id, user_name=unit.code or unit.name)
        actor = replace(actor, attributed_to=unit.unit_id)
    return actor


def _find(organisation: Organisation, named: Named) -> OrgUnit | Refusal:
    kind = named.kind
    if kind is None:
        return LookupTypeMissing(f"send the kind of the name with it: one of {', '.join(_LOOKUPS)}", named.kind_header)
    if kind not in _LOOKUPS:
        return InvalidPayload(f"must be one of {', '.join(_LOOKUPS)}", named.kind_header)
    if named.name is None:
        return InvalidPayload(f"send what {named.kind_header} is the kind of", named.header)
    among, read = _LOOKUPS[kind]
    found = [
        unit for unit in organisation.units.values() if unit.active and unit.kind is among and read(unit) == named.name
    ]
    if not found:
        return InvalidPayload(
            f"no {among} of this organisation has that {kind}; case counts, and the organisation file lists them",
            named.header,
        )
    if len(found) > 1:
        return InvalidPayload(f"{len(found)} {among}s have that {kind}: name one by another of its names", named.header)
    return found[0]
