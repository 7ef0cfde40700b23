"""Who may ask and who may decide, judged over one organisation's units and grants.

Units form two trees that meet at the stores: a store has a zone parent and a concept parent, a till
has a store. A grant at a unit counts for everything below it, along both trees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from counterfoil.domain.refusals import (
    InvalidPayload,
    NobodyCanCheck,
    NotPermitted,
    OverLimit,
    Refusal,
    SelfApproval,
    SelfInterest,
)

if TYPE_CHECKING:
    from counterfoil.domain.organisations import Organisation, Person


class Right(StrEnum):
    """What a grant or a credential allows."""

    MAKE = "CanMakeRequest"
    CHECK = "CanCheckRequest"
    FREEZE = "CanFreeze"
    ADMINISTER = "CanAdminister"
    MOVE_DIRECTLY = "CanMovePointsDirectly"
    SETTLE = "CanSettleIncident"


class UnitKind(StrEnum):
    """The four kinds of organisation unit."""

    ZONE = "zone"
    CONCEPT = "concept"
    STORE = "store"
    TILL = "till"


class OrgUnit(Struct, frozen=True):
    """A zone, concept, store or till; which parents it has depends on its kind."""

    unit_id: int
    kind: UnitKind
    name: str
    code: str | None = None
    zone_parent_id: int | None = None
    concept_parent_id: int | None = None
    store_id: int | None = None
    active: bool = True
    external_ids: tuple[str, ...] = ()


class Grant(Struct, frozen=True):
    """A right at a unit and below; `unit_id` None is the whole organisation.

    One that was given to a group names the group, and each of its people where a snapshot spreads it out.
    """

    grant_id: str
    person_id: str
    access_right: Right
    unit_id: int | None = None
    request_type: str | None = None
    points_max: int | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    group_id: str | None = None

    def covers(self, request_type: str, points: int | None, now: datetime) -> bool:
        """Whether the grant counts for this type and amount at this time; valid_until is exclusive.

        What has no points cannot be held against a limit, so a limited grant never covers it.
        """
        return (
            self.request_type in (None, request_type)
            and (self.points_max is None or (points is not None and points <= self.points_max))
            and self.is_valid(now)
        )

    def is_valid(self, now: datetime) -> bool:
        """Whether the grant counts at this time, whatever it is for."""
        return (self.valid_from is None or self.valid_from <= now) and (
            self.valid_until is None or now < self.valid_until
        )


class Actor(Struct, frozen=True):
    """An authenticated caller: the calling system and, where a user token came along, the person's user.

    `attributed_to` is another unit that the system calls for. It names, and never adds a right. Before
    `decides_from` the person decides nothing, as administrators have lately changed whom the user token came from.
    """

    org_id: int
    organisation_version: int
    login: str
    login_rights: frozenset[str]
    person_id: str | None
    user_id: int
    user_name: str
    has_user: bool
    attributed_to: int | None = None
    decides_from: datetime | None = None

    @property
    def origin(self) -> dict[str, str | int]:
        """What the audit trail says about where a call came from."""
        if self.attributed_to is None:
            return {"login": self.login}
        return {"login": self.login, "attributedTo": self.attributed_to}


class Place(Struct, frozen=True):
    """Where a request is made, resolved to the organisation's own units."""

    unit_id: int
    till_id: int | None
    store_id: int | None
    zone_id: int | None
    concept_id: int | None
    mismatched: tuple[str, ...] = ()


ENTITY_FIELDS = (
    ("tillId", UnitKind.TILL),
    ("storeId", UnitKind.STORE),
    ("zoneId", UnitKind.ZONE),
    ("conceptId", UnitKind.CONCEPT),
)


def units_above(units: Mapping[int, OrgUnit], unit_id: int) -> frozenset[int]:
    """The unit itself and every unit above it along both trees."""
    seen: set[int] = set()
    waiting = [unit_id]
    while waiting:
        current = waiting.pop()
        if current in seen or current not in units:
            continue
        seen.add(current)
        unit = units[current]
        waiting.extend(
            parent for parent in (unit.store_id, unit.zone_parent_id, unit.concept_parent_id) if parent is not None
        )
    return frozenset(seen)


def units_below(children: Mapping[int, Sequence[int]], unit_id: int) -> frozenset[int]:
    """The unit itself and every unit below it along both trees."""
    seen = {unit_id}
    waiting = [unit_id]
    while waiting:
        new = [child for child in children.get(waiting.pop(), ()) if child not in seen]
        seen.update(new)
        waiting.extend(new)
    return frozenset(seen)


def resolve_place(organisation: Organisation, sent: Mapping[str, int | None]) -> Place | InvalidPayload:
    """Find our unit for the sent ids: the till, else the store, zone, concept (dossier §5 no. 13).

    A till or store that we do not know is refused unless the other of the two resolves; sent ids that
    disagree with our tree are named in `mismatched`.
    """
    found: OrgUnit | None = None
    closed = ""
    for field, kind in ENTITY_FIELDS:
        unit = organisation.units.get(sent.get(field) or 0)
        if unit is not None and unit.kind is kind:
            if unit.active:
                found = unit
                break
            closed = closed or f"the {kind} {unit.unit_id} is closed: send a unit that is open"
    unknown_outlet = found is None or found.kind not in (UnitKind.TILL, UnitKind.STORE)
    sent_outlets = [field for field in ("tillId", "storeId") if sent.get(field)]
    if found is None or (unknown_outlet and sent_outlets):
        path = f"entityInfo.{sent_outlets[0]}" if sent_outlets else "entityInfo"
        return InvalidPayload(
            closed
            or "no unit of this organisation has that id: send the tillId or storeId of a unit that the "
            "organisation file lists",
            path,
        )
    store = found if found.kind is UnitKind.STORE else organisation.units.get(found.store_id or 0)
    ours = {
        "tillId": found.unit_id if found.kind is UnitKind.TILL else None,
        "storeId": store.unit_id if store else None,
        "zoneId": found.unit_id if found.kind is UnitKind.ZONE else (store.zone_parent_id if store else None),
        "conceptId": found.unit_id if found.kind is UnitKind.CONCEPT else (store.concept_parent_id if store else None),
    }
    above = organisation.above(found.unit_id)
    mismatched = tuple(
        field
        for field, _ in ENTITY_FIELDS
        if sent.get(field) and sent[field] != ours[field] and sent[field] not in above
    )
    return Place(found.unit_id, ours["tillId"], ours["storeId"], ours["zoneId"], ours["conceptId"], mismatched)


def has_right(
    organisation: Organisation,
    person_id: str,
    access_right: Right,
    *,
    unit_id: int,
    request_type: str,
    points: int | None,
    now: datetime,
) -> bool:
    """Whether the person holds the right at the unit or anywhere above it."""
    person = organisation.people.get(person_id)
    if person is None or not person.active:
        return False
    if access_right in (Right.CHECK, Right.SETTLE) and not organisation.may_have_a_voice(person_id, now):
        return False
    places = organisation.above(unit_id)
    return any(
        grant.access_right is access_right
        and (grant.unit_id is None or grant.unit_id in places)
        and grant.covers(request_type, points, now)
        for grant in organisation.grants_of_person.get(person_id, ())
    )


def why_not_check(organisation: Organisation, person: Person, now: datetime) -> NotPermitted | None:
    """What dual control takes from a person who may otherwise decide requests: None where it takes nothing."""
    if organisation.control == "dual" and organisation.is_administrator(person.person_id, now):
        return NotPermitted(
            "administrators decide no points requests under dual control: ask somebody who holds CanCheckRequest "
            "and not CanAdminister"
        )
    return suspension(person, now)


def suspension(person: Person, now: datetime) -> NotPermitted | None:
    """The refusal of a person whose sign-in was changed lately."""
    if person.suspended_until is None or now >= person.suspended_until:
        return None
    return NotPermitted(
        f"the sign-in of {person.person_id} was changed by administrators, so this person decides nothing until "
        f"{person.suspended_until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}: wait, or ask somebody else"
    )


def why_no_voice(actor: Actor, now: datetime) -> NotPermitted | None:
    """The refusal of a voice that is given with the token of an issuer that was changed lately."""
    if actor.decides_from is None or now >= actor.decides_from:
        return None
    return NotPermitted(
        "administrators have changed the issuer of the user token, so nothing is decided with it until "
        f"{actor.decides_from.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}: wait, or sign in with a password"
    )


def why_may_not_speak(organisation: Organisation, actor: Actor, now: datetime) -> NotPermitted | None:
    """What keeps a person who has signed in from deciding, lending or lifting anything now; None where nothing does."""
    person = organisation.people.get(actor.person_id or "")
    return why_no_voice(actor, now) or (suspension(person, now) if person else None)


def holders(
    organisation: Organisation,
    person_id: str,
    barred: frozenset[str],
    *,
    unit_id: int,
    request_type: str,
    points: int | None,
    now: datetime,
) -> tuple[str, ...]:
    """Whose deciding right the person can use: their own first, then those delegated to them.

    Only grants are lent, so nothing that was lent can be lent on, and never by the maker or whoever is concerned.
    """

    def may_check(person: str) -> bool:
        return has_right(
            organisation, person, Right.CHECK, unit_id=unit_id, request_type=request_type, points=points, now=now
        )

    if person_id in barred or not organisation.may_have_a_voice(person_id, now):
        return ()
    found = [person_id] if may_check(person_id) else []
    lent = organisation.delegations_to.get(person_id, ())
    if lent:
        places = organisation.above(unit_id)
        found.extend(
            each.delegator_id
            for each in lent
            if each.delegator_id not in barred
            and (each.unit_id is None or each.unit_id in places)
            and each.covers(request_type, points, now)
            and may_check(each.delegator_id)
        )
    return tuple(dict.fromkeys(found))


def may_make(
    organisation: Organisation, actor: Actor, place: Place, request_type: str, points: int | None, now: datetime
) -> Refusal | None:
    """Return None when the actor holds the right to make this request here, else the refusal with its reason."""
    if organisation.policy is None:
        return NobodyCanCheck("the organisation has no policy, so nothing can be requested: apply one first")
    person_id = actor.person_id
    if person_id is None:
        return NotPermitted(
            "the calling client has no responsible person, so it cannot make requests: send a user token in "
            "X-CAP-UI-AUTH-TOKEN, or name a person for the credential in the organisation file"
        )
    if not has_right(
        organisation,
        person_id,
        Right.MAKE,
        unit_id=place.unit_id,
        request_type=request_type,
        points=points,
        now=now,
    ):
        return NotPermitted(
            f"{actor.user_name} may not make {request_type} requests of this size at unit {place.unit_id}: ask the "
            "access team for CanMakeRequest there or at a unit above it",
        )
    return None


def may_decide(
    organisation: Organisation,
    actor: Actor,
    maker_person_id: str,
    *,
    unit_id: int,
    request_type: str,
    points: int | None,
    now: datetime,
    concerned: frozenset[str] = frozenset(),
) -> Refusal | None:
    """Return None when the actor may decide this request, else the refusal with its reason.

    `concerned` are the people who are the member themselves.
    """
    person_id = actor.person_id
    if not actor.has_user or person_id is None:
        return NotPermitted("a decision needs a person: send the checker's user token in X-CAP-UI-AUTH-TOKEN")
    if person_id == maker_person_id:
        return SelfApproval(
            "the maker of a request cannot decide it, whatever login is used: ask another person with CanCheckRequest"
        )
    if person_id in concerned:
        return SelfInterest(f"{actor.user_name} is the member concerned and cannot decide this request: ask another")
    person = organisation.people.get(person_id)
    refused = why_no_voice(actor, now) or (why_not_check(organisation, person, now) if person else None)
    if refused is not None:
        return refused
    if not holders(
        organisation,
        person_id,
        concerned | {maker_person_id},
        unit_id=unit_id,
        request_type=request_type,
        points=points,
        now=now,
    ):
        if has_right(
            organisation, person_id, Right.CHECK, unit_id=unit_id, request_type=request_type, points=0, now=now
        ):
            return OverLimit(
                f"{actor.user_name} may decide {request_type} requests at unit {unit_id}, but not for so many points: "
                "ask a checker with a higher limit"
            )
        return NotPermitted(
            f"{actor.user_name} may not decide {request_type} requests of this size at unit {unit_id}: ask the "
            "access team for CanCheckRequest there or at a unit above it"
        )
    return None
