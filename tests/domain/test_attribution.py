"""Calls for another till or store: what a name finds, and what it never changes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from counterfoil.domain.access import Actor, OrgUnit, UnitKind
from counterfoil.domain.attribution import Named, attribute
from counterfoil.domain.callers import OAUTH, AccessGroup, may_call
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import (
    AccessDenied,
    ClientOutOfScope,
    InvalidPayload,
    LookupTypeMissing,
    NotPermitted,
    Refusal,
)
from tests.builders import CONCEPT, MAKER, STORE, TILL, ZONE, actor_of, organisation

OTHER_STORE, OTHER_TILL, TWIN, CLOSED = 10, 11, 12, 13


def shop(**changes: Any) -> Organisation:
    """Two stores, one with all its names, and tills."""
    base = organisation()
    units = dict(base.units) | {
        TILL: replace(base.units[TILL], code="ind.1"),
        OTHER_STORE: OrgUnit(
            OTHER_STORE, UnitKind.STORE, "South", "S-2", ZONE, CONCEPT, external_ids=("ext0", "ext1", "ext2")
        ),
        OTHER_TILL: OrgUnit(OTHER_TILL, UnitKind.TILL, "Second", "ind.2", store_id=OTHER_STORE),
        TWIN: OrgUnit(TWIN, UnitKind.STORE, "South", "S-3", ZONE, CONCEPT, external_ids=("EXT0",)),
        CLOSED: OrgUnit(CLOSED, UnitKind.TILL, "Closed", "ind.9", store_id=OTHER_STORE, active=False),
    }
    return organisation(units=units, **changes)


def named(kind: str | None, name: str | None) -> Named:
    return Named("X-TYPE", "X-CODE", kind, name)


def system(organisation: Organisation) -> Actor:
    return replace(actor_of(organisation, MAKER), has_user=False, user_id=9, user_name="ind.1")


@pytest.mark.parametrize(
    ("kind", "name", "unit_id", "shown"),
    [
        ("TILL", "ind.2", OTHER_TILL, "ind.2"),
        ("STORE_CODE", "S-2", OTHER_STORE, "S-2"),
        ("STORE_NAME", "store", STORE, "store"),
        ("STORE_EXTERNAL_ID", "ext0", OTHER_STORE, "S-2"),
        ("STORE_EXTERNAL_ID_1", "ext1", OTHER_STORE, "S-2"),
        ("STORE_EXTERNAL_ID_2", "ext2", OTHER_STORE, "S-2"),
    ],
)
def test_every_kind_of_name(kind: str, name: str, unit_id: int, shown: str) -> None:
    place = shop()
    found = attribute(place, system(place), [named(kind, name)])
    assert isinstance(found, Actor)
    assert (found.user_id, found.user_name, found.attributed_to) == (unit_id, shown, unit_id)
    assert found.origin == {"login": "ind.1", "attributedTo": unit_id}


@pytest.mark.parametrize(
    ("kind", "name", "refusal", "header"),
    [
        (None, "ind.2", LookupTypeMissing, "X-TYPE"),
        ("TILL", None, InvalidPayload, "X-CODE"),
        ("till", "ind.2", InvalidPayload, "X-TYPE"),
        ("ZONE", "zone", InvalidPayload, "X-TYPE"),
        ("TILL", "IND.2", InvalidPayload, "X-CODE"),
        ("TILL", "S-2", InvalidPayload, "X-CODE"),
        ("TILL", "ind.9", InvalidPayload, "X-CODE"),
        ("TILL", str(OTHER_TILL), InvalidPayload, "X-CODE"),
        ("STORE_CODE", "ind.2", InvalidPayload, "X-CODE"),
        ("STORE_NAME", "South", InvalidPayload, "X-CODE"),
        ("STORE_EXTERNAL_ID", "ext1", InvalidPayload, "X-CODE"),
        ("STORE_EXTERNAL_ID_2", "nothing", InvalidPayload, "X-CODE"),
    ],
)
def test_what_finds_nothing_is_refused(kind: str | None, name: str | None, refusal: type[Refusal], header: str) -> None:
    place = shop()
    found = attribute(place, system(place), [named(kind, name)])
    assert type(found) is refusal
    assert found.path == header


def test_two_names_of_one_unit_are_fine_and_of_two_are_not() -> None:
    place = shop()
    assert isinstance(attribute(place, system(place), [named("TILL", "ind.2")] * 2), Actor)
    refused = attribute(place, system(place), [named("TILL", "ind.2"), named("TILL", "ind.1")])
    assert isinstance(refused, InvalidPayload)


def test_nothing_but_the_name_changes() -> None:
    """Neither person, rights nor login; and with a user not even the name."""
    place = shop()
    before = system(place)
    after = attribute(place, before, [named("TILL", "ind.2")])
    assert isinstance(after, Actor)
    assert replace(after, user_id=before.user_id, user_name=before.user_name, attributed_to=None) == before
    person = actor_of(place, MAKER)
    assert attribute(place, person, [named("TILL", "ind.2")]) == replace(person, attributed_to=OTHER_TILL)


@pytest.mark.parametrize(("unit_id", "allowed"), [(None, True), (ZONE, True), (OTHER_STORE, True), (STORE, False)])
def test_a_client_of_a_unit_stays_within_it(unit_id: int | None, allowed: bool) -> None:  # noqa: FBT001
    place = shop()
    client = replace(place.credentials["ind.1"], kind=OAUTH, unit_id=unit_id)
    place = shop(credentials={"ind.1": client})
    found = attribute(place, system(place), [named("TILL", "ind.2")])
    assert isinstance(found, Actor if allowed else NotPermitted)


def test_a_till_may_call_for_another_one() -> None:
    place = shop()
    assert place.credentials["ind.1"].unit_id == TILL
    assert isinstance(attribute(place, system(place), [named("TILL", "ind.2")]), Actor)


LABEL = "GET /v2/x"


@pytest.mark.parametrize(
    ("name", "resources", "allowed"),
    [
        (None, (), True), ("a", (LABEL,), True), ("a", ("v2",), True), ("a", (), False), ("a", ("v1",), False),
        ("a", ("GET /v2/x/y",), False), ("b", (LABEL,), False),
    ],
)  # fmt: skip
def test_an_access_group(name: str | None, resources: tuple[str, ...], allowed: bool) -> None:  # noqa: FBT001
    """Without one everything; one that is not there holds nothing."""
    for is_client, kind in ((False, AccessDenied), (True, ClientOutOfScope)):
        found = may_call(name, [AccessGroup("a", resources)], LABEL, "v2", is_client=is_client)
        assert found is None if allowed else type(found) is kind
