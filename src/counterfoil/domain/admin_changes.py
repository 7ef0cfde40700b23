"""Requests of the type ADMIN-CHANGE: a difference of the organisation, proposed by one and decided by another.

What was proposed is what is applied: each record that the difference touches must still be as it was when the
difference was made, and what the organisation would become must still be sound. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain import (
    caller_entries,
    delegations,
    dual_control,
    member_entries,
    organisation_files,
    policy_problems,
)
from counterfoil.domain.access import Actor
from counterfoil.domain.moved_records import moved, settings_of
from counterfoil.domain.organisation_changes import Change, Difference
from counterfoil.domain.organisation_files import (
    Current,
    MemberEntry,
    OrganisationFile,
    OrganisationSettings,
    Password,
    Problem,
    grant_key,
)
from counterfoil.domain.organisations import (
    Credential,
    Delegation,
    Organisation,
)
from counterfoil.domain.policy_files import PolicyFile
from counterfoil.domain.refusals import (
    AlreadyCompleted,
    ChangedSinceShown,
    NotPermitted,
    Refusal,
    RequestNotFound,
    SelfApproval,
)
from counterfoil.domain.requests import Decision, State

ADMIN_CHANGE: Final = "ADMIN-CHANGE"
SUSPENSION: Final = timedelta(hours=24)
TOLD_MAX: Final = 5
_AGAIN: Final = "nothing was changed: reject this one, and propose the file again"

_UNREADABLE: Final = f"it was proposed with another version of the program: {_AGAIN}"


class AdminChange(Struct, frozen=True):
    """A proposed change and its voices. `digest` is that of all that is approved.

    `difference` is None where another version of the program made it: then it can only be rejected.
    """

    request_id: UUID
    state: State
    maker_person_id: str
    maker_user_id: int
    maker_user_name: str
    message: str
    base_version: int
    difference: Difference | None
    digest: bytes
    started_at: datetime
    version: int = 1
    ended_at: datetime | None = None
    decisions: tuple[Decision, ...] = ()


class Propose(Struct, frozen=True):
    """A file as its difference from the organisation at `base_version`. `request_id` is made once."""

    request_id: UUID
    actor: Actor
    difference: Difference | None  # None: the actor may not propose, so nobody has looked at the file
    base_version: int
    message: str
    salt: bytes


class DecideChange(Struct, frozen=True):
    """One administrator's voice. `decision_id` is made once; `verdict` is approved or rejected."""

    decision_id: UUID
    actor: Actor
    request_id: UUID
    verdict: str
    message: str
    salt: bytes
    digest_seen: str | None = None


class DecidedChange(Struct, frozen=True):
    """A change after its voice; when it was approved, what is to be written and who is suspended by that.

    `issuers` are those whose tokens decide nothing for as long.
    """

    change: AdminChange
    decision: Decision
    difference: Difference | None = None
    suspended: tuple[str, ...] = ()
    issuers: tuple[str, ...] = ()
    taken_back: tuple[Delegation, ...] = ()  # all that the suspended have lent: nobody decides for them meanwhile


def settings_after(organisation: Organisation, difference: Difference) -> OrganisationSettings:
    """The same, as the difference leaves them."""
    return next((change.after for change in difference.settings if change.after), settings_of(organisation))


def as_file(organisation: Organisation, difference: Difference) -> OrganisationFile:
    """The difference as a file that names nothing else, for the checks that files go through."""
    after = dual_control.organisation_after(organisation, settings_after(organisation, difference), difference)
    credentials = _records(difference.credentials)
    issuers = {f"issuer {issuer.issuer}": issuer for issuer in after.issuers}
    return OrganisationFile(
        settings=settings_after(organisation, difference),
        units=_records(difference.units),
        people=_records(difference.people),
        users=_records(difference.users),
        credentials=credentials,
        passwords={place: Password("value", "") for place in (*credentials, *issuers)},
        grants={f"grant {number}": grant for number, grant in enumerate(after.grants)} if difference.grants else None,
        access_groups={f"access group {group.name}": group for group in after.access_groups}
        if difference.access_groups
        else None,
        issuers=issuers if difference.issuers else None,
        hosts={f"host {host.host_id}": host for host in after.hosts} if difference.hosts else None,
        groups={f"group {group.group_id}": group for group in after.groups.values()} if difference.groups else None,
        policy=next((PolicyFile(change.after) for change in difference.policy if change.after), None),
        reason_codes={f"reason code {number}": each for number, each in enumerate(after.reason_codes)}
        if difference.reason_codes
        else None,
        programme=next((change.after for change in difference.programme), None),
        members={
            f"member {each.member_id}": MemberEntry(each.member_id, each.after, each.lots)
            for each in difference.members
        },
    )


def _records(changes: tuple[Change[Any], ...]) -> dict[str, Any]:
    return {f"{change.what} {change.key}": change.after for change in changes if change.after}


def decide(
    organisation: Organisation, current: Current, change: AdminChange | None, command: DecideChange, now: datetime
) -> DecidedChange | Refusal:
    """Record the voice of a second administrator; an approval gives what is to be written in the same transaction."""
    refused = why_not_decide(organisation, change, command.actor, now)
    if refused is not None or change is None:
        return refused or RequestNotFound("no such change", "changeId")
    if command.digest_seen is not None and command.digest_seen != change.digest.hex():
        return ChangedSinceShown("the change is not the one that was shown: load it again and decide then")
    actor = command.actor
    decision = Decision(actor.person_id or "", actor.user_id, actor.user_name, command.verdict, command.message, now)
    ended = replace(
        change,
        state=State.SUCCEEDED if command.verdict == "approved" else State.REJECTED,
        version=change.version + 1,
        ended_at=now,
        decisions=(*change.decisions, decision),
    )
    if command.verdict != "approved":
        return DecidedChange(ended, decision)
    refused = why_not_apply(organisation, current, change, actor.person_id or "", now)
    if refused is not None or change.difference is None:
        return refused or ChangedSinceShown(_UNREADABLE)
    suspended = suspended_by(organisation, change.difference)
    return DecidedChange(
        ended,
        decision,
        restamped(change.difference, organisation.version + 1),
        suspended,
        tuple(issuer.after.issuer for issuer in change.difference.issuers if issuer.after),
        delegations.ended_with(organisation, suspended, now),
    )


def why_not_decide(
    organisation: Organisation, change: AdminChange | None, actor: Actor, now: datetime
) -> Refusal | None:
    """The refusal of this actor's voice, whatever it says; None when it would count."""
    refused = dual_control.may_administer(organisation, actor, now)
    if refused is not None:
        return refused
    if change is None:
        return RequestNotFound("no change of this organisation has that id", "changeId")
    if change.maker_person_id == actor.person_id:
        return SelfApproval(
            "whoever proposed a change cannot decide it, whatever login is used: ask another administrator"
        )
    if change.state is not State.PENDING:
        last = change.decisions[-1] if change.decisions else None
        told = f"{last.user_name} {last.verdict} it at {last.decided_at:%Y-%m-%dT%H:%M:%SZ}" if last else change.state
        return AlreadyCompleted(f"the change is already completed: {told}", "changeId")
    return None


def why_not_approve(organisation: Organisation, change: AdminChange, person_id: str, now: datetime) -> Refusal | None:
    """The refusal of this administrator's approval, as far as the organisation alone tells."""
    if change.difference is None:
        return ChangedSinceShown(_UNREADABLE)
    if gives_to(organisation, change.difference, person_id):
        return NotPermitted(
            f"the change gives {person_id} a right, a sign-in or a credential, and nobody approves what is for "
            "oneself: ask another administrator"
        )
    maker = change.maker_person_id
    own, makers = (
        dual_control.why_not_for_oneself(organisation, change.difference, each) for each in (person_id, maker)
    )
    refused = dual_control.why_not_administer(organisation, maker, now) or makers
    if own is not None:
        return own
    if refused is not None:
        return ChangedSinceShown(f"the proposal does not count any more: {refused.message}; {_AGAIN}")
    return None


def why_not_apply(
    organisation: Organisation, current: Current, change: AdminChange, person_id: str, now: datetime
) -> Refusal | None:
    """The refusal of an approval that cannot be applied as it was proposed; None when it can."""
    refused = why_not_approve(organisation, change, person_id, now)
    if refused is not None or change.difference is None:
        return refused
    different = list(moved(change.difference, organisation, current))
    if different:
        return ChangedSinceShown(
            f"since it was proposed at version {change.base_version}, these have changed: {_told(different)}; {_AGAIN}"
        )
    unsound = [f"{each.path}: {each.message}" for each in unsoundness(organisation, current, change.difference, now)]
    if unsound:
        return ChangedSinceShown(f"the change does not fit the organisation any more: {_told(unsound)}; {_AGAIN}")
    return None


def _told(texts: list[str]) -> str:
    more = len(texts) - TOLD_MAX
    return "; ".join(texts[:TOLD_MAX]) + (f"; and {more} more" if more > 0 else "")


def unsoundness(
    organisation: Organisation, current: Current, difference: Difference, now: datetime
) -> Iterator[Problem]:
    """Everything that a file must not be, asked of the difference and of what it leads to."""
    file = as_file(organisation, difference)
    yield from organisation_files.problems(file, current)
    yield from caller_entries.problems(file, current)
    yield from member_entries.problems(file, current, now)
    after = dual_control.organisation_after(organisation, file.settings, difference)
    yield from dual_control.problems(after, now)
    if difference.people or difference.users or difference.groups or difference.policy:
        yield from policy_problems.groups_in_need(after, "policy")


def gives_to(organisation: Organisation, difference: Difference, person_id: str) -> bool:
    """Whether the person gets a grant by it, or a sign-in or credential that is new, differs or comes back."""
    after = dual_control.organisation_after(organisation, settings_after(organisation, difference), difference)
    held, would_hold = (
        {grant_key(grant) for grant in each.grants_of_person.get(person_id, ())} for each in (organisation, after)
    )
    joined = after.groups_of.get(person_id, frozenset()) - organisation.groups_of.get(person_id, frozenset())
    return (
        bool(would_hold - held)
        or bool(joined)
        or any(
            change.after is not None
            and getattr(change.after, "person_id", None) == person_id
            and getattr(change.after, "active", True)
            for change in difference.records
        )
    )


def suspended_by(organisation: Organisation, difference: Difference) -> tuple[str, ...]:
    """Who was there before, and in whose name somebody else may act now.

    That is by a sign-in that is new, changed or brought back, or by the secret of such a calling system of theirs.
    """
    found = {change.after.person_id for change in difference.users if change.after and change.after.active}
    found |= {
        change.after.person_id
        for change in difference.credentials
        if change.after and change.after.person_id and change.after.active and _opens_anew(change.before, change.after)
    }
    found |= {
        change.after.person_id
        for change in difference.people
        if change.before and change.after and change.after.active and not change.before.active
    }
    return tuple(sorted(found & organisation.people.keys()))


def _opens_anew(before: Credential | None, after: Credential) -> bool:
    """Whether a calling system's secret acts for its person now, and did not before."""
    return before is None or (before.secret_hash, before.person_id, before.active) != (
        after.secret_hash,
        after.person_id,
        after.active,
    )


def restamped(difference: Difference, version: int) -> Difference:
    """The difference at the version that it is applied at: the revision of a host that becomes another one."""
    return replace(
        difference,
        version=version,
        hosts=tuple(
            replace(change, after=replace(change.after, revision=version))
            if change.after and (change.before is None or change.before.revision != change.after.revision)
            else change
            for change in difference.hosts
        ),
    )
