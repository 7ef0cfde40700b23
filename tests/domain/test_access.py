"""Who may ask and who may decide: rights come from above along both trees, and never from the maker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from counterfoil.domain.access import (
    Actor,
    OrgUnit,
    Place,
    Right,
    UnitKind,
    has_right,
    may_decide,
    resolve_place,
    units_above,
)
from counterfoil.domain.organisations import Organisation, Person, Policy, User
from counterfoil.domain.refusals import InvalidPayload, NobodyCanCheck, NotPermitted, SelfApproval
from counterfoil.domain.rulings import Ruling, may_submit
from tests.builders import (
    CHECKER,
    CONCEPT,
    MAKER,
    OTHER_CHECKER,
    STORE,
    TILL,
    ZONE,
    actor_of,
    grant,
    organisation,
)

KIND = "POINTS-REDEMPTION"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POINTS = 100_000
REGION, BRAND, OTHER_STORE, OTHER_ZONE, OTHER_TILL = 1, 2, 3, 4, 5

UNITS = {
    REGION: OrgUnit(REGION, UnitKind.ZONE, "region"),
    BRAND: OrgUnit(BRAND, UnitKind.CONCEPT, "brand"),
    ZONE: OrgUnit(ZONE, UnitKind.ZONE, "zone", zone_parent_id=REGION),
    OTHER_ZONE: OrgUnit(OTHER_ZONE, UnitKind.ZONE, "other zone", zone_parent_id=REGION),
    CONCEPT: OrgUnit(CONCEPT, UnitKind.CONCEPT, "concept", concept_parent_id=BRAND),
    STORE: OrgUnit(STORE, UnitKind.STORE, "store", None, ZONE, CONCEPT),
    OTHER_STORE: OrgUnit(OTHER_STORE, UnitKind.STORE, "other store", None, OTHER_ZONE, CONCEPT),
    TILL: OrgUnit(TILL, UnitKind.TILL, "till", store_id=STORE),
    OTHER_TILL: OrgUnit(OTHER_TILL, UnitKind.TILL, "other till", store_id=OTHER_STORE),
}
PLACE = Place(TILL, TILL, STORE, ZONE, CONCEPT)
MAKES = grant(MAKER, Right.MAKE, None)
CHECKS = grant(CHECKER, Right.CHECK, None)


def with_grants(*grants: Any, **changes: Any) -> Organisation:
    return organisation(**{"units": UNITS, "grants": grants} | changes)


def submits(org: Organisation, person_id: str = MAKER, points: int = POINTS) -> object:
    ruling = may_submit(org, actor_of(org, person_id), PLACE, KIND, points, NOW)
    return None if isinstance(ruling, Ruling) else ruling


def decides(org: Organisation, actor: Actor | None = None, points: int = POINTS) -> object:
    actor = actor or actor_of(org, CHECKER)
    return may_decide(org, actor, MAKER, unit_id=TILL, request_type=KIND, points=points, now=NOW)


# ---------------------------------------------------------------- where

ABOVE_THE_TILL = [None, TILL, STORE, ZONE, REGION, CONCEPT, BRAND]
BESIDE_IT = [OTHER_STORE, OTHER_ZONE, OTHER_TILL, 999]


@pytest.mark.parametrize("unit", ABOVE_THE_TILL)
def test_a_grant_counts_for_everything_below_it_along_both_trees(unit: int | None) -> None:
    assert submits(with_grants(grant(MAKER, Right.MAKE, unit), CHECKS)) is None
    assert submits(with_grants(MAKES, grant(CHECKER, Right.CHECK, unit))) is None
    assert decides(with_grants(grant(CHECKER, Right.CHECK, unit))) is None


@pytest.mark.parametrize("unit", BESIDE_IT)
def test_a_grant_elsewhere_counts_for_nothing(unit: int) -> None:
    assert isinstance(submits(with_grants(grant(MAKER, Right.MAKE, unit), CHECKS)), NotPermitted)
    assert isinstance(submits(with_grants(MAKES, grant(CHECKER, Right.CHECK, unit))), NobodyCanCheck)
    assert isinstance(decides(with_grants(grant(CHECKER, Right.CHECK, unit))), NotPermitted)


def test_units_above_are_named_once_and_a_loop_ends() -> None:
    assert sorted(units_above(UNITS, TILL)) == sorted([TILL, STORE, ZONE, REGION, CONCEPT, BRAND])
    assert list(units_above(UNITS, 999)) == []
    loop = {1: OrgUnit(1, UnitKind.ZONE, "a", zone_parent_id=2), 2: OrgUnit(2, UnitKind.ZONE, "b", None, 1)}
    assert list(units_above(loop, 1)) == [1, 2]


# ---------------------------------------------------------------- when, what, how much


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"request_type": KIND}, True),
        ({"request_type": "GOODWILL-POINTS"}, False),
        ({"valid_from": NOW}, True),
        ({"valid_from": NOW + SECOND}, False),
        ({"valid_until": NOW}, False),
        ({"valid_until": NOW + SECOND}, True),
        ({"valid_from": NOW - SECOND, "valid_until": NOW + SECOND}, True),
        ({"points_max": POINTS}, True),
        ({"points_max": POINTS - 1}, False),
        ({"points_max": POINTS + 1, "valid_until": NOW - SECOND}, False),
    ],
)
def test_a_grant_has_a_type_a_time_and_a_size(changes: dict[str, Any], counts: bool) -> None:  # noqa: FBT001
    made = submits(with_grants(grant(MAKER, Right.MAKE, **changes), CHECKS))
    assert made is None if counts else isinstance(made, NotPermitted)
    checkable = submits(with_grants(MAKES, grant(CHECKER, Right.CHECK, **changes)))
    assert checkable is None if counts else isinstance(checkable, NobodyCanCheck)
    decided = decides(with_grants(grant(CHECKER, Right.CHECK, **changes)))
    assert decided is None if counts else isinstance(decided, NotPermitted)


def test_two_grants_do_not_add_up() -> None:
    halves = [grant(CHECKER, Right.CHECK, unit, points_max=POINTS // 2) for unit in (TILL, STORE)]
    assert isinstance(decides(with_grants(*halves)), NotPermitted)


@pytest.mark.parametrize("right", [Right.MAKE, Right.MOVE_DIRECTLY])
def test_one_right_is_not_another(right: Right) -> None:
    assert isinstance(decides(with_grants(grant(CHECKER, right))), NotPermitted)


def test_a_person_who_left_has_no_rights() -> None:
    gone = {MAKER: Person(MAKER, "m", active=False), CHECKER: Person(CHECKER, "c", active=False)}
    org = with_grants(MAKES, CHECKS, people=gone)
    assert isinstance(submits(org), NotPermitted)
    assert isinstance(decides(org), NotPermitted)
    assert not has_right(org, "E-nobody", Right.CHECK, unit_id=TILL, request_type=KIND, points=1, now=NOW)


# ---------------------------------------------------------------- four eyes


@pytest.mark.parametrize("login", ["ind.1", "another.client"])
def test_the_maker_s_person_never_decides_whatever_login_is_used(login: str) -> None:
    org = with_grants(MAKES, CHECKS, grant(MAKER, Right.CHECK, None))
    by_other_user = replace(actor_of(org, MAKER), login=login, user_id=999, user_name="a second account")
    refused = decides(org, by_other_user)
    assert isinstance(refused, SelfApproval)
    assert refused.code == 2001


@pytest.mark.parametrize("changes", [{"has_user": False}, {"person_id": None}])
def test_a_decision_needs_a_person_with_a_user_token(changes: dict[str, Any]) -> None:
    org = with_grants(MAKES, CHECKS)
    refused = decides(org, replace(actor_of(org, CHECKER), **changes))
    assert isinstance(refused, NotPermitted)
    assert "X-CAP-UI-AUTH-TOKEN" in refused.message


def test_a_client_without_a_person_makes_nothing() -> None:
    org = with_grants(MAKES, CHECKS)
    nobody = replace(actor_of(org, MAKER), person_id=None, has_user=False)
    assert isinstance(may_submit(org, nobody, PLACE, KIND, POINTS, NOW), NotPermitted)


@pytest.mark.parametrize(
    ("grants", "changes"),
    [
        ([MAKES], {}),
        ([MAKES, grant(MAKER, Right.CHECK, None)], {}),
        ([MAKES, grant(CHECKER, Right.MAKE, None)], {}),
        ([MAKES, CHECKS], {"policy": None}),
        ([MAKES, CHECKS], {"policy": Policy(1, 2)}),
        ([MAKES, CHECKS, grant(CHECKER, Right.CHECK, TILL)], {"policy": Policy(1, 2)}),
        ([MAKES, CHECKS, grant(MAKER, Right.CHECK, None)], {"policy": Policy(1, 2)}),
        ([MAKES, CHECKS], {"people": {MAKER: Person(MAKER, "m"), CHECKER: Person(CHECKER, "c", active=False)}}),
        ([MAKES, CHECKS], {"users": {1: User(1, "m", MAKER), 2: User(2, "c", CHECKER, active=False)}}),
        ([MAKES, CHECKS], {"users": {1: User(1, "m", MAKER)}}),
    ],
)  # fmt: skip
def test_what_nobody_could_ever_decide_is_refused(grants: list[Any], changes: dict[str, Any]) -> None:
    refused = submits(with_grants(*grants, **changes))
    assert isinstance(refused, NobodyCanCheck)
    assert refused.code == 2021


def test_as_many_checkers_as_the_policy_wants_are_enough() -> None:
    others = grant(OTHER_CHECKER, Right.CHECK, BRAND)
    assert submits(with_grants(MAKES, CHECKS, others, policy=Policy(1, 2))) is None
    assert isinstance(submits(with_grants(MAKES, CHECKS, others, policy=Policy(1, 3))), NobodyCanCheck)


RIGHTS = st.sampled_from([Right.MAKE, Right.CHECK])
PEOPLE = st.sampled_from([MAKER, CHECKER, OTHER_CHECKER])
GRANTS = st.lists(
    st.builds(
        grant,
        PEOPLE,
        RIGHTS,
        st.sampled_from([*ABOVE_THE_TILL, *BESIDE_IT]),
        points_max=st.sampled_from([None, POINTS - 1, POINTS]),
        valid_until=st.sampled_from([None, NOW, NOW + SECOND]),
    ),
    max_size=8,
)


@given(GRANTS, PEOPLE, st.integers(1, 3))
def test_what_may_be_submitted_can_be_decided_by_enough_others(grants: list[Any], maker: str, quorum: int) -> None:
    org = with_grants(*grants, policy=Policy(1, quorum))
    answer = submits(org, maker)
    able = [
        person
        for person in (MAKER, CHECKER, OTHER_CHECKER)
        if may_decide(org, actor_of(org, person), maker, unit_id=TILL, request_type=KIND, points=POINTS, now=NOW)
        is None
    ]
    assert maker not in able
    if answer is None:
        assert len(able) >= quorum
    elif isinstance(answer, NobodyCanCheck):
        assert len(able) < quorum


# ---------------------------------------------------------------- where is this?


def place(**sent: int | None) -> object:
    return resolve_place(with_grants(), sent)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"tillId": TILL, "storeId": STORE, "zoneId": ZONE, "conceptId": CONCEPT}, PLACE),
        ({"tillId": TILL}, PLACE),
        ({"tillId": TILL, "storeId": 999}, replace(PLACE, mismatched=("storeId",))),
        ({"tillId": TILL, "storeId": OTHER_STORE}, replace(PLACE, mismatched=("storeId",))),
        ({"tillId": TILL, "zoneId": OTHER_ZONE, "conceptId": 999},
         replace(PLACE, mismatched=("zoneId", "conceptId"))),
        ({"tillId": TILL, "zoneId": REGION, "conceptId": BRAND}, PLACE),
        ({"storeId": STORE}, replace(PLACE, unit_id=STORE, till_id=None)),
        ({"storeId": STORE, "tillId": 999},
         replace(PLACE, unit_id=STORE, till_id=None, mismatched=("tillId",))),
        ({"zoneId": ZONE}, Place(ZONE, None, None, ZONE, None)),
        ({"conceptId": CONCEPT}, Place(CONCEPT, None, None, None, CONCEPT)),
        ({"zoneId": ZONE, "conceptId": CONCEPT}, Place(ZONE, None, None, ZONE, None, ("conceptId",))),
    ],
)  # fmt: skip
def test_a_place_is_our_own_unit_and_what_disagrees_is_named(sent: dict[str, int], expected: Place) -> None:
    assert place(**sent) == expected


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ({}, "entityInfo"),
        ({"tillId": None}, "entityInfo"),
        ({"tillId": 0}, "entityInfo"),
        ({"tillId": 999}, "entityInfo.tillId"),
        ({"storeId": 999}, "entityInfo.storeId"),
        ({"tillId": 999, "zoneId": ZONE}, "entityInfo.tillId"),
        ({"tillId": STORE}, "entityInfo.tillId"),
        ({"storeId": TILL}, "entityInfo.storeId"),
        ({"zoneId": CONCEPT}, "entityInfo"),
    ],
)
def test_an_unknown_place_is_refused(sent: dict[str, int], path: str) -> None:
    refused = place(**sent)
    assert isinstance(refused, InvalidPayload)
    assert refused.path == path


def test_a_closed_till_is_no_place() -> None:
    units = UNITS | {TILL: replace(UNITS[TILL], active=False)}
    assert isinstance(resolve_place(with_grants(units=units), {"tillId": TILL}), InvalidPayload)
    found = resolve_place(with_grants(units=units), {"tillId": TILL, "storeId": STORE})
    assert isinstance(found, Place)
    assert (found.unit_id, found.till_id, found.mismatched) == (STORE, None, ("tillId",))
