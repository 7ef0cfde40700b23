"""The life of a request: its states, and the rules that move it from one to the next.

Every rule takes one request with its member's account and returns both changed, or a refusal. Nothing
here reads a clock: `now` is the database's, read after the locks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from counterfoil.domain import freezes, ledger_executions, points, rulings
from counterfoil.domain.access import Actor, Place
from counterfoil.domain.intouch_answers import (
    Outcome,
)
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payload_types import ON_THE_LEDGER, Asked
from counterfoil.domain.payloads import TASK, Redemption, points_text
from counterfoil.domain.points import FOREVER, Hold, Journal, MemberAccount
from counterfoil.domain.policies import ONE_APPROVAL, Requirement
from counterfoil.domain.refusals import (
    InvalidPayload,
    Refusal,
)
from counterfoil.domain.rulings import CapUse, Ruling, Tally


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
    """One checker's voice. `verdict` is approved or rejected; `on_behalf_of` lent the right, if anybody did."""

    person_id: str
    user_id: int
    user_name: str
    verdict: str
    message: str
    decided_at: datetime
    on_behalf_of: str | None = None
    reason_code: str | None = None
    sent_back: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A maker's proposal under control. Points in thousandths; `payload` is the stored form."""

    request_id: UUID
    request_type: str
    state: State
    maker_person_id: str
    maker_user_id: int
    maker_user_name: str
    unit_id: int
    points: int | None
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
    expires_at: datetime | None = None
    resubmission_of: UUID | None = None
    decided_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    decisions: tuple[Decision, ...] = ()
    urgent_at: datetime = FOREVER  # when it is too late to wait longer: the order of the inbox
    policy_revision: int = 0
    requirement: Requirement = ONE_APPROVAL
    auto_rule: str | None = None  # the rule of the policy that approved it, in place of any checker

    @property
    def sent_back(self) -> bool:
        """Whether it was rejected with the wish that it be corrected and made again."""
        return self.state is State.REJECTED and bool(self.decisions) and self.decisions[-1].sent_back


def is_overdue(state: State, expires_at: datetime | None, now: datetime) -> bool:
    """Whether nobody decided in time. Time alone ends a request; the sweep only writes it down."""
    return state is State.PENDING and expires_at is not None and expires_at <= now


def as_of(request: Request, now: datetime) -> Request:
    """The request as it stands at this time, whether or not the sweep has been there."""
    if not is_overdue(request.state, request.expires_at, now):
        return request
    return replace(request, state=State.EXPIRED, ended_at=request.expires_at)


@dataclass(frozen=True, slots=True)
class Submit:
    """A create call after all that needs no database: who, where, what. `request_id` is made once."""

    request_id: UUID
    actor: Actor
    place: Place
    request_type: str
    entity_info: bytes
    asked: Asked
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
    resubmission_of: UUID | None = None
    correlation_id: str = ""
    served_by: str = ""
    redemption_ids: tuple[str, str] | None = None  # None where the policy approves nothing by itself


@dataclass(frozen=True, slots=True)
class Decide:
    """A decide call. `decision_id` is made once; `verdict` is approved or rejected.

    Without `request_type` the request may be of any. `on_behalf_of` names whose right is to be used; without it
    the checker's own goes first. `reason_needed`: a rejection must carry one of the declared reason codes.
    """

    decision_id: UUID
    actor: Actor
    request_id: UUID
    request_type: str | None
    verdict: str
    message: str
    correlation_id: str
    served_by: str
    redemption_ids: tuple[str, ...]
    salt: bytes
    till_login: str = ""
    till_verified: bool | None = None
    digest_seen: str | None = None
    on_behalf_of: str | None = None
    reason_code: str | None = None
    reason_needed: bool = False
    sent_back: bool = False


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request that now exists, the account it changed, the journals of that, and the counters it is in."""

    request: Request
    account: MemberAccount | None
    journals: tuple[Journal, ...] = ()
    holds: tuple[Hold, ...] = ()
    uses: tuple[CapUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """A request after one voice (None: the policy itself), and all that moved; `asked` where it was executed."""

    request: Request
    decision: Decision | None
    account: MemberAccount | None
    journals: tuple[Journal, ...] = ()
    holds: tuple[Hold, ...] = ()
    asked: Asked | None = None
    uses: tuple[CapUse, ...] = ()
    is_repeated: bool = False  # the person's earlier voice counts again: there is no further one


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
    tallies: Mapping[str, Tally] | None = None,
    may_be_automatic: bool = False,
) -> Submitted | Refusal:
    """Accept a request as pending, with its points set aside where the member has enough.

    Under `profile: strict` too few points or units that disagree are refused instead of flagged. What a rule of
    the policy approves by itself has its name in `auto_rule` and is to be executed next.
    """
    asked = command.asked
    refused: Refusal | None = freezes.stopped_by(
        organisation,
        unit_id=command.place.unit_id,
        request_type=command.request_type,
        host_id=command.host_id,
        maker_person_id=command.actor.person_id,
        member_id=None if account is None else account.member_id,
    ) or ledger_executions.above_cap(organisation.programme, command.request_type, asked.points)
    change = _set_aside(organisation, command, account, duplicate_of, now, None)
    flags = list(_flags(organisation, command, account, change, duplicate_of))
    ruling = rulings.may_submit(
        organisation, command.actor, command.place, command.request_type, asked.points, now,
        concerned=concerned(organisation, account, asked.identifier_kind, asked.identifier_value),
        tallies=tallies, may_be_automatic=may_be_automatic and not flags,
    )  # fmt: skip
    if isinstance(ruling, Refusal):
        return ruling
    if refused is not None:
        return refused
    if ruling.expires_at is not None:
        change = _set_aside(organisation, command, account, duplicate_of, now, ruling.expires_at)
    if organisation.profile == "strict":
        refused = _refused_strictly(command, account, flags, now)
        if refused is not None:
            return refused
    request = _pending(organisation, command, ruling, account, change, digest, duplicate_of, tuple(flags), now)
    if change is None or ruling.auto_rule is not None:  # what is approved at once is spent, not set aside
        return Submitted(request, account, uses=ruling.uses)
    return Submitted(request, change.account, change.journals, change.holds, ruling.uses)


def concerned(
    organisation: Organisation, account: MemberAccount | None, kind: str, value: str, member_id: int | None = None
) -> frozenset[str]:
    """The people who are the member themselves: they neither make nor decide."""
    people = organisation.people_of_member
    if not people:
        return frozenset()
    keys: list[object] = [(kind, value), member_id]
    if account is not None:
        keys += [
            account.member_id,
            ("mobile", account.mobile),
            ("email", account.email),
            ("external_id", account.external_id),
        ]
    return frozenset().union(*(people.get(key, ()) for key in keys))


def _set_aside(
    organisation: Organisation,
    command: Submit,
    account: MemberAccount | None,
    duplicate_of: UUID | None,
    now: datetime,
    until: datetime | None,
) -> points.Change | None:
    """The hold of a redemption; None where there is nothing to hold, or too little."""
    if account is None or duplicate_of is not None or not isinstance(command.asked, Redemption):
        return None
    days = organisation.programme.hold_days
    return points.place_hold(account, command.request_id, command.asked.points, now=now, days=days, until=until)


def _flags(
    organisation: Organisation,
    command: Submit,
    account: MemberAccount | None,
    change: points.Change | None,
    duplicate_of: UUID | None,
) -> Iterator[str]:
    """What a checker should know, as the built-in ledger sees it now."""
    asked = command.asked
    yield from (f"unit_mismatch:{field}" for field in command.place.mismatched)
    if account is None and command.request_type in ON_THE_LEDGER:
        yield "member_unknown"
    if duplicate_of is not None:
        yield "duplicate"
    elif isinstance(asked, Redemption) and change is None:
        yield "unfunded"
    if not isinstance(asked, Redemption):
        yield from ledger_executions.flags(organisation.programme, asked)
    if command.till_epoch is None:
        yield "till_credential"
    if command.resubmission_of is not None:
        yield "resubmission"


def _refused_strictly(
    command: Submit, account: MemberAccount | None, flags: list[str], now: datetime
) -> Refusal | None:
    """What `profile: contract` only tells the checker."""
    if command.place.mismatched:
        field = command.place.mismatched[0]
        return InvalidPayload(
            f"entityInfo.{field} is not above the till or store that was sent: correct it or leave it out",
            f"entityInfo.{field}",
        )
    if "unfunded" in flags:
        available = 0 if account is None else points.spendable(account, now)
        return InvalidPayload(
            f"the member has {points_text(available)} points available, fewer than the request asks for",
            f"{TASK}.body.root.redeem.points_redeemed",
        )
    if "not_served" in flags:
        return InvalidPayload(
            f"the built-in ledger cannot execute {command.request_type}: name a host that the organisation file "
            "routes to an external target",
            f"{TASK}.hostname",
        )
    return None


def _pending(
    organisation: Organisation,
    command: Submit,
    ruling: Ruling,
    account: MemberAccount | None,
    change: points.Change | None,
    digest: bytes,
    duplicate_of: UUID | None,
    flags: tuple[str, ...],
    now: datetime,
) -> Request:
    asked, actor, policy = command.asked, command.actor, organisation.policy
    if policy is None or actor.person_id is None:
        raise AssertionError("may_submit refuses without a policy or a person (this is a bug)")
    ends = FOREVER if change is None else points.earliest_end(change.account, change.holds[0].allocations)
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
        approvals_required=ruling.requirement.approvals,
        started_at=now,
        member_id=None if account is None else account.member_id,
        identifier_kind=asked.identifier_kind,
        identifier_value=asked.identifier_value,
        external_reference=asked.external_reference,
        till_login=command.till_login,
        till_epoch=command.till_epoch,
        flags=flags,
        duplicate_of=duplicate_of,
        resubmission_of=command.resubmission_of,
        urgent_at=min(ends, ruling.expires_at or FOREVER),
        policy_revision=policy.revision,
        requirement=ruling.requirement,
        expires_at=ruling.expires_at,
        auto_rule=ruling.auto_rule,
    )
