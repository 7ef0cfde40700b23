"""Calls that a system makes for another till or store, which it names in headers (dossier §4).

An attribution changes the name under which a system without a user acts, and what the audit trail says. It adds
no right: the person, the rights and the recorded login stay those of the calling system.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain.access import Actor, OrgUnit, UnitKind
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import InvalidPayload, LookupTypeMissing, NotPermitted, Refusal

TILL: Final = "TILL"


class Named(Struct, frozen=True):
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
        outside = why_not_at(organisation, actor.login, unit.unit_id)
        if outside is not None:
            return NotPermitted(outside.message, named[-1].header)
        if not actor.has_user:
            actor = replace(actor, user_id=unit.unit_id, user_name=unit.code or unit.name)
        actor = replace(actor, attributed_to=unit.unit_id)
    return actor


def why_not_at(organisation: Organisation, login: str, unit_id: int) -> NotPermitted | None:
    """The refusal of an OAuth client at a unit that is neither its own nor below it, however that was named."""
    client = organisation.credentials.get(login)
    if client is None or not client.is_client or client.unit_id is None:
        return None
    if client.unit_id in organisation.above(unit_id):
        return None
    return NotPermitted(f"the client {login} may call for unit {client.unit_id} and those below it only")


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
