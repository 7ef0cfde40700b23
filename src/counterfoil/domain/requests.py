"""A request, its states, and the commands that move it from one to the next.

Every rule takes one request with its member's account and returns both changed, or a refusal. None of them
reads a clock: `now` is the database's, read after the locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain.access import Actor, Place
from counterfoil.domain.intouch_answers import Executed, Outcome
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payload_types import ISSUE_BADGE, Asked, members_of, read_stored
from counterfoil.domain.points import FOREVER, Hold, Journal, MemberAccount
from counterfoil.domain.policies import ONE_APPROVAL, Requirement
from counterfoil.domain.rulings import CapUse


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


class Decision(Struct, frozen=True):
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


class Request(Struct, frozen=True):
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
    due_at: datetime | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    fence: int = 0
    executed: Executed | None = None

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


class Submit(Struct, frozen=True):
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


class Decide(Struct, frozen=True):
    """A decide call. `decision_id` is made once; `verdict` is approved or rejected.

    Without `request_type` the request may be of any. `on_behalf_of` names whose right is to be used; without it
    the checker's own goes first. `reason_needed`: a rejection must carry one of the declared reason codes.
    `lease_owner`: the process that executes the request on its external host as soon as it is approved.
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
    lease_owner: str | None = None
    lease_seconds: float = 0.0


class Submitted(Struct, frozen=True):
    """A request that now exists, the account it changed, the journals of that, and the counters it is in."""

    request: Request
    account: MemberAccount | None
    journals: tuple[Journal, ...] = ()
    holds: tuple[Hold, ...] = ()
    uses: tuple[CapUse, ...] = ()


class Decided(Struct, frozen=True):
    """A request after one voice (None: the policy itself), and all that moved; `asked` where it was executed."""

    request: Request
    decision: Decision | None
    account: MemberAccount | None
    journals: tuple[Journal, ...] = ()
    holds: tuple[Hold, ...] = ()
    asked: Asked | None = None
    uses: tuple[CapUse, ...] = ()
    is_repeated: bool = False  # the person's earlier voice counts again: there is no further one


class NeedsTillCheck(Struct, frozen=True):
    """The stored till credential must be verified again before this approval can be executed."""


def members_in(request: Request) -> tuple[int, ...]:
    """The members of a request for several; only such a one is read for it."""
    if request.request_type != ISSUE_BADGE or request.identifier_kind:
        return ()
    return members_of(read_stored(request.request_type, request.payload))


def concerned_in(organisation: Organisation, request: Request, account: MemberAccount | None) -> frozenset[str]:
    """The people who are a member of the request themselves, by all that is known now."""
    members = (request.member_id, *members_in(request))
    return concerned(organisation, account, request.identifier_kind, request.identifier_value, members)


def concerned(
    organisation: Organisation, account: MemberAccount | None, kind: str, value: str, members: Iterable[int | None] = ()
) -> frozenset[str]:
    """The people who are the member themselves: they neither make nor decide."""
    people = organisation.people_of_member
    if not people:
        return frozenset()
    keys: list[object] = [(kind, value), *members]
    if account is not None:
        keys += [
            account.member_id,
            ("mobile", account.mobile),
            ("email", account.email),
            ("external_id", account.external_id),
        ]
    return frozenset().union(*(people.get(key, ()) for key in keys))
