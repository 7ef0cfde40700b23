"""Delegation: a checker lends the deciding right to somebody else, for dates and within a scope.

What is lent is what the delegator holds by grants when a request is decided: it ends with them, and what was
only lent cannot be lent on. A voice given for somebody uses up both people for that request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain import access
from counterfoil.domain.access import Actor, Right
from counterfoil.domain.organisations import Delegation, Organisation
from counterfoil.domain.payload_types import TYPES
from counterfoil.domain.refusals import AlreadyCompleted, InvalidPayload, NotPermitted, Refusal, RequestNotFound

DAYS_MAX: Final = 366
OPEN_MAX: Final = 50


class Delegate(Struct, frozen=True):
    """A checker's call to delegate. `delegation_id` is made once; without `valid_from` it begins at once."""

    delegation_id: UUID
    actor: Actor
    delegate_id: str
    valid_until: datetime
    salt: bytes
    valid_from: datetime | None = None
    unit_id: int | None = None
    request_type: str | None = None
    points_max: int | None = None


class EndDelegation(Struct, frozen=True):
    """The delegator's call to end a delegation early. `end_id` is made once."""

    end_id: UUID
    actor: Actor
    delegation_id: UUID
    salt: bytes


def delegate(organisation: Organisation, command: Delegate, earlier: int, now: datetime) -> Delegation | Refusal:
    """A new delegation by the delegator in person. `earlier` counts those of theirs that are not over."""
    actor = command.actor
    if not actor.has_user or actor.person_id is None:
        return NotPermitted("a delegation needs a person: send the delegator's user token in X-CAP-UI-AUTH-TOKEN")
    refused = access.why_may_not_speak(organisation, actor, now)
    if refused is not None:
        return refused
    grants = organisation.grants_of_person.get(actor.person_id, ())
    if not any(grant.access_right is Right.CHECK for grant in grants):
        return NotPermitted(f"{actor.user_name} has no grant of {Right.CHECK}, so there is no right to delegate")
    if command.delegate_id == actor.person_id:
        return InvalidPayload("delegate must be another person", "delegate")
    if command.delegate_id not in organisation.people_with_user:
        return InvalidPayload("delegate must be the staff id of an active person with a user", "delegate")
    if command.unit_id is not None and command.unit_id not in organisation.units:
        return InvalidPayload(f"there is no unit {command.unit_id}", "unit")
    if command.request_type is not None and command.request_type not in TYPES:
        return InvalidPayload(f"type must be one of {', '.join(TYPES)}", "type")
    valid_from = command.valid_from or now
    if not max(now, valid_from) < command.valid_until <= valid_from + timedelta(days=DAYS_MAX):
        return InvalidPayload(f"until must be after `from` and after now, at most {DAYS_MAX} days later", "until")
    if earlier >= OPEN_MAX:
        return InvalidPayload(f"you have {OPEN_MAX} delegations: end one of them first")
    return Delegation(
        delegation_id=command.delegation_id,
        delegator_id=actor.person_id,
        delegate_id=command.delegate_id,
        valid_from=valid_from,
        valid_until=command.valid_until,
        unit_id=command.unit_id,
        request_type=command.request_type,
        points_max=command.points_max,
        made_at=now,
    )


def end(found: Delegation | None, command: EndDelegation, now: datetime) -> Delegation | Refusal:
    """The delegation ends now; only its delegator can do that."""
    if found is None:
        return RequestNotFound("no delegation of this organisation has that id", "delegationId")
    if not command.actor.has_user or command.actor.person_id != found.delegator_id:
        return NotPermitted("only who made a delegation can end it early")
    if found.ended_at is not None or found.valid_until <= now:
        return AlreadyCompleted("the delegation is over already")
    return replace(found, ended_at=now)


def ended_with(organisation: Organisation, delegators: Collection[str], now: datetime) -> tuple[Delegation, ...]:
    """All that these people have lent and that is not over, ended now."""
    return tuple(
        replace(each, ended_at=now)
        for each in organisation.delegations
        if each.delegator_id in delegators and each.ended_at is None and each.valid_until > now
    )


def used_up(voices: Iterable[tuple[str, str | None]]) -> frozenset[str]:
    """The people who can give no further voice: (person, on behalf of whom) of each voice so far."""
    return frozenset(person for voice in voices for person in voice if person is not None)
