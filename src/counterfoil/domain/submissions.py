"""Accepting a proposal: whether it may be made, what is set aside for it, and what a checker should know.

On the built-in ledger points are set aside; an external host judges members, points and credentials itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from uuid import UUID

from counterfoil.domain import freezes, ledger_executions, points, rulings
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payload_types import MEMBER_ID, ON_THE_LEDGER, members_of
from counterfoil.domain.payloads import TASK, Redemption, points_text
from counterfoil.domain.points import FOREVER, MemberAccount
from counterfoil.domain.refusals import InvalidPayload, Refusal
from counterfoil.domain.requests import Request, State, Submit, Submitted, concerned
from counterfoil.domain.rulings import Ruling, Tally


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
    asked, is_external = command.asked, organisation.is_external(command.host_id)
    member_id = _member_id(command, account, is_external=is_external)
    members = (member_id, *members_of(asked))
    refused: Refusal | None = freezes.stopped_by(
        organisation,
        unit_id=command.place.unit_id,
        request_type=command.request_type,
        host_id=command.host_id,
        maker_person_id=command.actor.person_id,
        member_ids=members,
    )
    if not is_external:
        refused = refused or ledger_executions.above_cap(organisation.programme, command.request_type, asked.points)
    change = _set_aside(organisation, command, account, duplicate_of, now, None)
    flags = list(_flags(organisation, command, account, change, duplicate_of))
    ruling = rulings.may_submit(
        organisation, command.actor, command.place, command.request_type, asked.points, now,
        concerned=concerned(organisation, account, asked.identifier_kind, asked.identifier_value, members),
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
    request = _pending(organisation, command, ruling, member_id, change, digest, duplicate_of, tuple(flags), now)
    if change is None or ruling.auto_rule is not None:  # what is approved at once is spent, not set aside
        return Submitted(request, account, uses=ruling.uses)
    return Submitted(request, change.account, change.journals, change.holds, ruling.uses)


def _member_id(command: Submit, account: MemberAccount | None, *, is_external: bool) -> int | None:
    """Whose request it is: a number goes for the member also where only the external host knows them."""
    if account is not None:
        return account.member_id
    is_number = is_external and command.asked.identifier_kind == MEMBER_ID
    return int(command.asked.identifier_value) if is_number else None


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
    if organisation.is_external(command.host_id):
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
    """What a checker should know. Members, points and credentials of an external host are not ours to judge."""
    asked, on_ledger = command.asked, not organisation.is_external(command.host_id)
    yield from (f"unit_mismatch:{field}" for field in command.place.mismatched)
    if on_ledger and account is None and command.request_type in ON_THE_LEDGER:
        yield "member_unknown"
    if duplicate_of is not None:
        yield "duplicate"
    elif on_ledger and isinstance(asked, Redemption) and change is None:
        yield "unfunded"
    if on_ledger and not isinstance(asked, Redemption):
        yield from ledger_executions.flags(organisation.programme, asked)
    if on_ledger and command.till_epoch is None:
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
    member_id: int | None,
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
        member_id=member_id,
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
