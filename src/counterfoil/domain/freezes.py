"""Freezes: one person stops submissions, approvals and executions; two people let them go on.

Rejecting and withdrawing stay possible, and so does everything that only reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain import access
from counterfoil.domain.access import Actor, Right
from counterfoil.domain.organisations import Freeze, Organisation
from counterfoil.domain.payload_types import TYPES
from counterfoil.domain.payloads import ID_MAX
from counterfoil.domain.refusals import AlreadyCompleted, Frozen, InvalidPayload, NotPermitted, Refusal, RequestNotFound

REASON_MAX: Final = 500


class Scope(StrEnum):
    """What a freeze can stop."""

    ORGANISATION = "organisation"
    UNIT = "unit"
    TYPE = "type"
    HOST = "host"
    MAKER = "maker"
    MEMBER = "member"


class PlaceFreeze(Struct, frozen=True):
    """A call to freeze. `freeze_id` is made once; `target` is the unit, type, host, person or member in its scope."""

    freeze_id: UUID
    actor: Actor
    scope: Scope
    target: str
    reason: str
    salt: bytes
    is_operator: bool = False


class LiftFreeze(Struct, frozen=True):
    """A call to lift a freeze: the first person's proposes it, another person's lifts. `lift_id` is made once."""

    lift_id: UUID
    actor: Actor
    freeze_id: UUID
    salt: bytes


class Frost(Struct, frozen=True):
    """All that is frozen now, to ask for many requests at once; `units` with everything below them."""

    everything: bool
    hosts: frozenset[str]
    units: frozenset[int]
    types: frozenset[str]
    makers: frozenset[str]
    members: frozenset[int]


NOTHING_FROZEN: Final = Frost(False, frozenset(), frozenset(), frozenset(), frozenset(), frozenset())  # noqa: FBT003


def frost(organisation: Organisation) -> Frost:
    """What the freezes of an organisation stop."""

    def targets(scope: Scope) -> frozenset[str]:
        return frozenset(each.target for each in organisation.freezes if each.scope == scope)

    return Frost(
        bool(targets(Scope.ORGANISATION)),
        targets(Scope.HOST),
        frozenset(unit for place in targets(Scope.UNIT) for unit in organisation.below(int(place))),
        targets(Scope.TYPE),
        targets(Scope.MAKER),
        frozenset(int(member) for member in targets(Scope.MEMBER)),
    )


def stopped_by(
    organisation: Organisation,
    *,
    unit_id: int | None,
    request_type: str,
    host_id: str | None,
    maker_person_id: str | None,
    member_ids: Iterable[int | None],
) -> Frozen | None:
    """The refusal of a submission, an approval or an execution while a freeze covers it; None when none does."""
    if not organisation.freezes:
        return None
    places = frozenset[int]() if unit_id is None else organisation.above(unit_id)
    covered = {
        (Scope.ORGANISATION, ""),
        (Scope.TYPE, request_type),
        (Scope.HOST, host_id),
        (Scope.MAKER, maker_person_id),
        *((Scope.MEMBER, str(member)) for member in member_ids),
        *((Scope.UNIT, str(place)) for place in places),
    }
    for freeze in organisation.freezes:
        if (freeze.scope, freeze.target) in covered:
            return Frozen(
                f"{_what(freeze)} frozen by {freeze.placed_name} since {freeze.placed_at:%Y-%m-%dT%H:%M:%SZ} "
                f"({freeze.reason}): nothing is submitted, approved or executed there until two people with "
                f"{Right.FREEZE} lift freeze {freeze.freeze_id}"
            )
    return None


def _what(freeze: Freeze) -> str:
    return (
        "the organisation is"
        if freeze.scope == Scope.ORGANISATION
        else f"unit {freeze.target} with everything below it is"
        if freeze.scope == Scope.UNIT
        else f"{freeze.scope} {freeze.target} is"
    )


def may_freeze(organisation: Organisation, actor: Actor, scope: str, target: str, now: datetime) -> Refusal | None:
    """Whether the actor may freeze this, or have a part in lifting it; None when they may.

    A unit needs the right at that unit or above it, everything else in the whole organisation. Also with a sign-in
    or an issuer that was changed lately: to stop is always safe, so only lifting asks for more.
    """
    if not actor.has_user or actor.person_id is None:
        return NotPermitted("a freeze needs a person: send a user token in X-CAP-UI-AUTH-TOKEN")
    if _entitled(organisation, actor.person_id, scope, target, now):
        return None
    where = f"at unit {target} or above it" if scope == Scope.UNIT else "for the whole organisation"
    return NotPermitted(
        f"{actor.user_name} may not freeze this, or have it lifted: ask the access team for {Right.FREEZE} {where}"
    )


def _entitled(organisation: Organisation, person_id: str, scope: str, target: str, now: datetime) -> bool:
    person = organisation.people.get(person_id)
    if person is None or not person.active:
        return False
    places = organisation.above(int(target)) if scope == Scope.UNIT else frozenset[int]()
    return any(
        grant.access_right is Right.FREEZE
        and (grant.unit_id is None or grant.unit_id in places)
        and (grant.request_type is None or (scope == Scope.TYPE and grant.request_type == target))
        and grant.covers(grant.request_type or "", 0, now)
        for grant in organisation.grants_of_person.get(person_id, ())
    )


def place(organisation: Organisation, command: PlaceFreeze, now: datetime) -> Freeze | Refusal:
    """A new freeze. What is to be stopped must exist, so that a slip of the pen stops something."""
    actor = command.actor
    refused = _check_target(organisation, command.scope, command.target)
    if refused is None and not command.is_operator:
        refused = may_freeze(organisation, actor, command.scope, command.target, now)
    if refused is not None:
        return refused
    for freeze in organisation.freezes:
        if (freeze.scope, freeze.target) == (command.scope, command.target):
            return AlreadyCompleted(
                f"{_what(freeze)} frozen already, by {freeze.placed_name} since "
                f"{freeze.placed_at:%Y-%m-%dT%H:%M:%SZ}: see freeze {freeze.freeze_id}"
            )
    return Freeze(
        freeze_id=command.freeze_id,
        scope=command.scope,
        target=command.target,
        reason=command.reason,
        placed_by=f"operator {actor.user_name}" if command.is_operator else actor.person_id or "",
        placed_name=actor.user_name,
        placed_at=now,
    )


def _check_target(organisation: Organisation, scope: Scope, target: str) -> Refusal | None:
    match scope:
        case Scope.ORGANISATION:
            known = target == ""
        case Scope.UNIT:
            known = _is_number(target) and int(target) in organisation.units
        case Scope.TYPE:
            known = target in TYPES
        case Scope.HOST:
            known = any(host.host_id == target for host in organisation.hosts)
        case Scope.MAKER:
            known = target in organisation.people
        case Scope.MEMBER:
            known = _is_number(target)
    if known:
        return None
    return InvalidPayload(f"target must name the {scope} to freeze; this organisation has no such one", "target")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= ID_MAX and str(int(text)) == text


def lift(organisation: Organisation, freeze: Freeze | None, command: LiftFreeze, now: datetime) -> Freeze | Refusal:
    """The first person with the right proposes, a second one lifts; the same person twice changes nothing.

    A proposal counts only while its owner may speak and still has the right.
    """
    if freeze is None:
        return RequestNotFound("no freeze of this organisation has that id", "freezeId")
    actor = command.actor
    refused = may_freeze(organisation, actor, freeze.scope, freeze.target, now)
    refused = refused or access.why_may_not_speak(organisation, actor, now)
    if refused is not None:
        return refused
    if freeze.lifted_at is not None:
        return AlreadyCompleted(f"the freeze was lifted by {freeze.lifted_name}")
    person_id, proposer = actor.person_id or "", freeze.lift_proposed_by
    if proposer == person_id:
        return NotPermitted(f"you have proposed to lift this freeze: another person with {Right.FREEZE} must lift it")
    if proposer is None or not _still_proposes(organisation, proposer, freeze, now):
        return replace(freeze, lift_proposed_by=person_id, lift_proposed_name=actor.user_name, lift_proposed_at=now)
    return replace(freeze, lifted_by=person_id, lifted_name=actor.user_name, lifted_at=now)


def _still_proposes(organisation: Organisation, proposer: str, freeze: Freeze, now: datetime) -> bool:
    return (
        proposer in organisation.people_with_user
        and access.suspension(organisation.people[proposer], now) is None
        and _entitled(organisation, proposer, freeze.scope, freeze.target, now)
    )
