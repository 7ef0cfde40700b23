"""The life of a request: its states, and the rules that move it from one to the next.

Every rule takes one request with its member's account and returns both changed, or a refusal. Nothing
here reads a clock: `now` is the database's, read after the locks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from counterfoil.domain import access, points
from counterfoil.domain.access import Actor, Place
from counterfoil.domain.intouch_answers import Executed, Outcome
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import TASK, Redemption, points_text
from counterfoil.domain.points import Hold, Journal, MemberAccount
from counterfoil.domain.refusals import (
    InvalidPayload,
    Refusal,
)


class State(StrEnum):
    """Where a request stands (design.md §4)."""

    PENDING = "pending"
    APPROVED = "approved"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.PENDING: frozenset(
        {State.APPROVED, State.SUCCEEDED, State.FAILED, State.REJECTED, State.WITHDRAWN, State.EXPIRED}
    ),
    State.APPROVED: frozenset({State.UNKNOWN, State.SUCCEEDED, State.FAILED}),
    State.UNKNOWN: frozenset({State.APPROVED, State.SUCCEEDED, State.FAILED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.REJECTED: frozenset(),
    State.WITHDRAWN: frozenset(),
    State.EXPIRED: frozenset(),
}
FINAL: Final = frozenset(state for state, following in TRANSITIONS.items() if not following)

WIRE_STATE: Final[Mapping[State, str]] = {
    State.PENDING: "AdminTask",
    State.APPROVED: "AdminTask",
    State.UNKNOWN: "AdminTask",
    State.SUCCEEDED: "approved",
    State.FAILED: "failed",
    State.REJECTED: "rejected",
    State.WITHDRAWN: "rejected",
    State.EXPIRED: "rejected",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """One checker's voice. `verdict` is approved or rejected."""

    person_id: str
    user_id: int
    user_name: str
    verdict: str
    message: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Request:
    """A maker's proposal under control. Points in thousandths; `payload` is the stored form.

    `outcome` is that of the built-in ledger, `executed` that of an external host. `due_at`: when an executor may
    take it; `fence` rises with each one that does, so that a late one is told.
    """

    request_id: UUID
    request_type: str
    state: State
    maker_person_id: str
    maker_user_id: int
    maker_user_name: str
    unit_id: int
    points: int
    host_id: str
    host_revision: int
    payload: bytes
    digest: bytes
    approvals_required: int
    started_at: datetime
    version: int = 1
    member_id: int | None = None
    identifier_kind: str = ""
    identifier_value: str = ""
    external_reference: str | None = None
    till_login: str | None = None
    till_epoch: int | None = None
    flags: tuple[str, ...] = ()
    duplicate_of: UUID | None = None
    decided_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    decisions: tuple[Decision, ...] = ()
    due_at: datetime | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    fence: int = 0
    executed: Executed | None = None


@dataclass(frozen=True, slots=True)
class Submit:
    """A create call after all that needs no database: who, where, what. `request_id` is made once."""

    request_id: UUID
    actor: Actor
    place: Place
    request_type: str
    entity_info: bytes
    redemption: Redemption
    host_id: str
    host_revision: int
    payload: bytes
    sealed_headers: bytes
    content_digest: bytes
    salt: bytes
    till_login: str | None = None
    till_epoch: int | None = None
    idempotency_key: str | None = None
    idempotency_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Decide:
    """A decide call. `decision_id` is made once; `verdict` is approved or rejected.

    `lease_owner`: the process that executes the request on its external host as soon as it is approved.
    """

    decision_id: UUID
    actor: Actor
    request_id: UUID
    request_type: str
    verdict: str
    message: str
    correlation_id: str
    served_by: str
    redemption_ids: tuple[str, ...]
    salt: bytes
    till_login: str = ""
    till_verified: bool | None = None
    digest_seen: str | None = None
    lease_owner: str | None = None
    lease_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request that now exists, the account it changed and the journals of that."""

    request: Request
    account: MemberAccount | None
    journals: tuple[Journal, ...] = ()
    holds: tuple[Hold, ...] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """A request after one voice, and all that this voice moved."""

    request: Request
    decision: Decision
    account: MemberAccount | None
    journals: tuple[Journal, ...] = ()
    holds: tuple[Hold, ...] = ()
    asked: Redemption | None = None


@dataclass(frozen=True, slots=True)
class NeedsTillCheck:
    """The stored till credential must be verified again before this approval can be executed."""


def submit(
    organisation: Organisation,
    command: Submit,
    account: MemberAccount | None,
    *,
    digest: bytes,
    duplicate_of: UUID | None,
    now: datetime,
) -> Submitted | Refusal:
    """Accept a request as pending, with its points set aside where the member has enough.

    Under `profile: strict` too few points or units that disagree are refused instead of flagged.
    """
    wanted = command.redemption.points
    refused = access.may_submit(organisation, command.actor, command.place, command.request_type, wanted, now)
    if refused is not None:
        return refused
    change: points.Change | None = None
    if account is not None and duplicate_of is None:
        change = points.place_hold(account, command.request_id, wanted, now=now, days=organisation.programme.hold_days)
    flags = [f"unit_mismatch:{field}" for field in command.place.mismatched]
    if account is None:
        flags.append("member_unknown")
    if duplicate_of is not None:
        flags.append("duplicate")
    elif change is None:
        flags.append("unfunded")
    if command.till_epoch is None:
        flags.append("till_credential")
    if organisation.profile == "strict":
        refused = _refused_strictly(command, account, flags, now)
        if refused is not None:
            return refused
    request = _pending(organisation, command, account, digest, duplicate_of, tuple(flags), now)
    if change is None:
        return Submitted(request, account)
    return Submitted(request, change.account, change.journals, change.holds)


def submit_externally(
    organisation: Organisation, command: Submit, *, digest: bytes, duplicate_of: UUID | None, now: datetime
) -> Submitted | Refusal:
    """Accept a request for an external host: its members, points and credentials are not ours to judge."""
    wanted = command.redemption.points
    refused = access.may_submit(organisation, command.actor, command.place, command.request_type, wanted, now)
    if refused is not None:
        return refused
    flags = [f"unit_mismatch:{field}" for field in command.place.mismatched]
    if duplicate_of is not None:
        flags.append("duplicate")
    if organisation.profile == "strict" and command.place.mismatched:
        return _mismatched(command.place.mismatched[0])
    return Submitted(_pending(organisation, command, None, digest, duplicate_of, tuple(flags), now), None)


def _mismatched(field: str) -> InvalidPayload:
    return InvalidPayload(
        f"entityInfo.{field} is not above the till or store that was sent: correct it or leave it out",
        f"entityInfo.{field}",
    )


def _refused_strictly(
    command: Submit, account: MemberAccount | None, flags: list[str], now: datetime
) -> Refusal | None:
    """What `profile: contract` only tells the checker."""
    if command.place.mismatched:
        return _mismatched(command.place.mismatched[0])
    if "unfunded" in flags:
        available = 0 if account is None else points.spendable(account, now)
        return InvalidPayload(
            f"the member has {points_text(available)} points available, fewer than the request asks for",
            f"{TASK}.body.root.redeem.points_redeemed",
        )
    return None


def _pending(
    organisation: Organisation,
    command: Submit,
    account: MemberAccount | None,
    digest: bytes,
    duplicate_of: UUID | None,
    flags: tuple[str, ...],
    now: datetime,
) -> Request:
    asked, actor, policy = command.redemption, command.actor, organisation.policy
    if policy is None or actor.person_id is None:
        raise AssertionError("may_submit refuses without a policy or a person (this is a bug)")
    return Request(
        request_id=command.request_id,
        request_type=command.request_type,
        state=State.PENDING,
        maker_person_id=actor.person_id,
        maker_user_id=actor.user_id,
        maker_user_name=actor.user_name,
        unit_id=command.place.unit_id,
        points=asked.points,
        host_id=command.host_id,
        host_revision=command.host_revision,
        payload=command.payload,
        digest=digest,
        approvals_required=policy.approvals_required,
        started_at=now,
        member_id=None if account is None else account.member_id,
        identifier_kind=asked.identifier_kind,
        identifier_value=asked.identifier_value,
        external_reference=asked.external_reference,
        till_login=command.till_login,
        till_epoch=command.till_epoch,
        flags=flags,
        duplicate_of=duplicate_of,
    )
