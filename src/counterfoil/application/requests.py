"""The verbs on requests. Each takes a list of commands in one transaction: lock the set, decide, write the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.application import counting, ids, request_events
from counterfoil.domain import decisions, points, resubmissions, submissions
from counterfoil.domain.access import Actor
from counterfoil.domain.caps import CapBook
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.points import MemberAccount
from counterfoil.domain.refusals import NotPermitted, Refusal
from counterfoil.domain.requests import Decide, Decided, NeedsTillCheck, Request, State, Submit, Submitted
from counterfoil.domain.seals import make_event
from counterfoil.storage import requests
from counterfoil.storage.accounts import Loaded
from counterfoil.storage.changes import Changes, write
from counterfoil.storage.database import Tx

CREATE_PATH = "/api_gateway/v2/request-workflow"


class Stale(Struct, frozen=True):
    """The organisation changed since the command was prepared: prepare it again with a fresh snapshot."""

    organisation_version: int


class Replayed(Struct, frozen=True):
    """The idempotency key was used before for the same content: this request is the answer."""

    request_id: UUID


class KeyConflict(Struct, frozen=True):
    """The idempotency key was used before for other content: that of this request."""

    request_id: UUID


# What may be asked for once: by type, host and reference; on the ledger by type and reference.
Reference = tuple[str, ...]
SubmitOutcome = Request | Replayed | KeyConflict | Stale | Refusal
DecideOutcome = Request | NeedsTillCheck | Stale | Refusal


class Ledger:
    """The member accounts of one batch, folded command by command, and what became of them."""

    def __init__(self, organisation: Organisation, now: datetime, changes: Changes) -> None:
        self._organisation = organisation
        self.now = now
        self.changes = changes
        self.closed_holds: set[UUID] = set()
        self._before: dict[int, MemberAccount] = {}
        self._after: dict[int, MemberAccount] = {}

    def account(self, loaded: MemberAccount | None) -> MemberAccount | None:
        """The account as the batch has left it so far; at first sight, what is due is settled.

        Its journals belong to time, not to a command that may be run again, so they have ids of their own.
        """
        if loaded is None:
            return None
        if loaded.member_id not in self._before:
            self._before[loaded.member_id] = loaded
            change = points.settle_due(
                loaded, now=self.now, grace_hours=self._organisation.programme.release_grace_hours
            )
            self.move(change.account, change.journals, change.holds, ids.uuid7())
        return self._after[loaded.member_id]

    def move(
        self,
        account: MemberAccount | None,
        journals: Sequence[points.Journal],
        holds: Sequence[points.Hold],
        first_id: UUID,
    ) -> None:
        """Keep what one command did."""
        if account is None:
            return
        self._after[account.member_id] = account
        self.changes.add_journals(first_id, journals, self.now)
        self.changes.add_holds(account.member_id, holds)
        self.closed_holds.update(hold.request_id for hold in holds if hold.state != "open")

    def finish(self) -> None:
        """Hand the changed accounts over for writing."""
        for member_id, before in self._before.items():
            self.changes.change_account(before, self._after[member_id])


def is_current(organisation: Organisation, actor: Actor, version_now: int) -> bool:
    """Whether the snapshot, and the actor that was verified by it, are of the version under lock."""
    return version_now == organisation.version == actor.organisation_version


async def submit_requests(tx: Tx, organisation: Organisation, commands: Sequence[Submit]) -> list[SubmitOutcome]:
    """Each command becomes a pending request with its points set aside, or a refusal that changes nothing."""
    keys: dict[tuple[str, str], tuple[str, str, str, bytes, UUID]] = {}
    for each in commands:
        if each.idempotency_key is not None:  # of twins in one batch, the first takes the key
            keys.setdefault(
                (each.actor.login, each.idempotency_key),
                (each.actor.login, CREATE_PATH, each.idempotency_key, each.idempotency_digest, each.request_id),
            )
    if keys:
        await requests.insert_idempotency_keys(tx, organisation.org_id, sorted(keys.values()))
    book = await counting.lock_for_submission(tx, organisation, commands)
    loaded = await requests.lock_for_submission(tx, organisation.org_id, commands, CREATE_PATH)
    changes = Changes()
    ledger = Ledger(organisation, loaded.now, changes)
    batch = _SubmissionBatch(ledger, book, await counting.read_for_execution(tx, organisation, commands))
    outcomes: list[SubmitOutcome] = []
    refused: set[UUID] = set()
    for command, file in zip(commands, loaded.files, strict=True):
        if file.key_request_id in refused:  # the twin that took the key made no request: the key is free again
            outcomes.append(Stale(loaded.organisation_version))
            continue
        earlier = file.earlier
        if earlier is not None and command.resubmission_of in batch.resubmitted:
            earlier = replace(earlier, resubmitted_as=batch.resubmitted[command.resubmission_of])
        outcome = _submit_one(organisation, command, replace(file, earlier=earlier), loaded, batch)
        if command.resubmission_of is not None and isinstance(outcome, Request):
            batch.resubmitted[command.resubmission_of] = outcome.request_id
        if command.idempotency_key is not None and not isinstance(outcome, Request | Replayed):
            refused.add(command.request_id)
            changes.freed_keys.append((command.request_id, command.actor.login, CREATE_PATH, command.idempotency_key))
        outcomes.append(outcome)
    ledger.finish()
    changes.add_counted(book)
    await write(tx, organisation.org_id, changes)
    return outcomes


@dataclass(slots=True)
class _SubmissionBatch:
    """What the commands of one batch share, and what earlier ones of them have done."""

    ledger: Ledger
    book: CapBook
    ready: dict[UUID, tuple[bool, str]]
    references: dict[Reference, UUID] = field(default_factory=dict)
    resubmitted: dict[UUID, UUID] = field(default_factory=dict)


def _submit_one(
    organisation: Organisation,
    command: Submit,
    file: requests.SubmissionFile,
    loaded: Loaded[requests.SubmissionFile],
    batch: _SubmissionBatch,
) -> SubmitOutcome:
    known = _known_answer(organisation, command, file, loaded.organisation_version)
    if known is not None:
        return known
    ledger, changes = batch.ledger, batch.ledger.changes
    account = ledger.account(file.account)
    place = (command.request_type, command.host_id, command.asked.external_reference or "")
    result = resubmissions.may_resubmit(command, file.earlier, loaded.now) or submissions.submit(
        organisation,
        command,
        account,
        digest=request_digest(command, organisation),
        duplicate_of=file.duplicate_of or batch.references.get(place),
        now=loaded.now,
        tallies=batch.book.tallies(command.request_id),
        may_be_automatic=command.request_id in batch.ready,
    )
    if isinstance(result, Refusal):
        if isinstance(result, NotPermitted):
            add_refused(changes, command.request_id, command.request_id, "submission_refused", command.actor,
                         command.salt, loaded.now, result)  # fmt: skip
        return result
    done = (
        None if result.request.auto_rule is None else _execute_by_policy(organisation, command, account, result, batch)
    )
    if result.request.auto_rule is not None and done is None:  # not now, or not here: then a checker must decide
        result = submissions.submit(
            organisation, command, account, digest=result.request.digest, duplicate_of=None, now=loaded.now,
            tallies=batch.book.tallies(command.request_id),
        )  # fmt: skip
        if isinstance(result, Refusal):
            return result
    if place[-1]:
        batch.references.setdefault(place, command.request_id)
    batch.book.take(command.request_id, result.uses, command.asked.points or 0)
    moved = result if done is None else done
    ledger.move(moved.account, moved.journals, moved.holds, command.request_id)
    changes.add_request(moved.request, command)
    changes.add_event(request_events.submitted(organisation, command, result.request))
    if done is not None:
        request_events.add_done(organisation, command.actor.origin, done, changes,
                  UUID(int=command.request_id.int ^ 2), command.salt, loaded.now)  # fmt: skip
    return moved.request


def _known_answer(
    organisation: Organisation, command: Submit, file: requests.SubmissionFile, version: int
) -> Replayed | KeyConflict | Stale | None:
    """What needs no ruling: a command or a key that was there before, or a snapshot that is too old."""
    if file.already_written:
        return Replayed(command.request_id)
    if not is_current(organisation, command.actor, version):
        return Stale(version)
    if command.idempotency_key is not None and file.key_request_id != command.request_id:
        if file.key_request_id is None:
            return Stale(version)
        if file.key_digest == command.idempotency_digest:
            return Replayed(file.key_request_id)
        return KeyConflict(file.key_request_id)
    return None


def _execute_by_policy(
    organisation: Organisation,
    command: Submit,
    account: MemberAccount | None,
    result: Submitted,
    batch: _SubmissionBatch,
) -> Decided | None:
    """Execute at once what a rule approves; None where that cannot be done."""
    reference_used, redemption_id = batch.ready[command.request_id]
    return decisions.execute_by_policy(
        organisation, result.request, command, account,
        reference_used=reference_used, redemption_id=redemption_id, now=batch.ledger.now,
    )  # fmt: skip


def request_digest(command: Submit, organisation: Organisation) -> bytes:
    """The digest of what is approved: content with header values as MACs, host and policy revision."""
    policy = organisation.policy.revision if organisation.policy else 0
    return sha256(
        b"%b|%s|%d|%d" % (command.content_digest, command.host_id.encode(), command.host_revision, policy)
    ).digest()


def add_refused(
    changes: Changes,
    subject_id: UUID,
    command_id: UUID,
    kind: str,
    actor: Actor,
    salt: bytes,
    now: datetime,
    refusal: Refusal,
) -> None:
    """The audit line of a refused access: all that a refused command leaves behind.

    It has an id of its own, for the same command may be accepted when it is run again.
    """
    changes.add_refusal(
        make_event(
            subject_id,
            UUID(int=command_id.int ^ 1),
            kind,
            now,
            salt,
            {"code": refusal.code, **actor.origin, "org": actor.org_id},
            {"actor": f"{actor.person_id} {actor.user_name}"},
        )
    )


async def decide_requests(tx: Tx, organisation: Organisation, commands: Sequence[Decide]) -> list[DecideOutcome]:
    """Each command adds one voice; the last approval executes on the built-in ledger in this transaction."""
    book = await counting.lock_for_decision(tx, organisation, commands)
    loaded = await requests.lock_for_decision(tx, organisation.org_id, commands)
    changes = Changes()
    batch = _DecisionBatch(Ledger(organisation, loaded.now, changes), book)
    outcomes: list[DecideOutcome] = []
    for command, file in zip(commands, loaded.files, strict=True):
        current = is_current(organisation, command.actor, loaded.organisation_version)
        if file.already_written and file.request is not None:
            outcomes.append(file.request)
        elif not current:
            outcomes.append(Stale(loaded.organisation_version))
        else:
            outcomes.append(_decide_one(organisation, command, file, batch))
    for request in batch.voted.values():
        changes.change_request(request)
    batch.ledger.finish()
    changes.add_counted(book)
    await write(tx, organisation.org_id, changes)
    return outcomes


@dataclass(slots=True)
class _DecisionBatch:
    """What earlier commands of the same batch have done."""

    ledger: Ledger
    book: CapBook
    voted: dict[UUID, Request] = field(default_factory=dict)
    references: set[Reference] = field(default_factory=set)


def _decide_one(
    organisation: Organisation, command: Decide, file: requests.DecisionFile, batch: _DecisionBatch
) -> DecideOutcome:
    ledger = batch.ledger
    account = ledger.account(file.account)
    request = batch.voted.get(command.request_id, file.request)
    # Whether a hold is over was judged with the account: a moment later it may be due, and is still open.
    hold = None if command.request_id in ledger.closed_holds else file.hold
    reference = None if request is None else (request.request_type, request.external_reference or "")
    now = ledger.now
    if request is not None and request.decisions:  # voices of one batch have an order, too
        now = max(now, request.decisions[-1].decided_at + timedelta(microseconds=1))
    result = decisions.decide(
        organisation,
        request,
        command,
        account,
        hold,
        reference_used=file.reference_used or reference in batch.references,
        redemption_id=file.redemption_id,
        now=now,
        tallies=batch.book.tallies(command.request_id, command.actor.person_id or ""),
    )
    if not isinstance(result, Decided):
        if isinstance(result, NotPermitted):
            add_refused(ledger.changes, command.request_id, command.decision_id, "decision_refused", command.actor,
                         command.salt, ledger.now, result)  # fmt: skip
        return result
    decided = result.request
    batch.voted[command.request_id] = decided
    if decided.outcome is not None and decided.outcome.succeeded and reference is not None and reference[-1]:
        batch.references.add(reference)
    ledger.move(result.account, result.journals, result.holds, command.decision_id)
    batch.book.take(command.request_id, result.uses, decided.points or 0)
    if decided.ended_at is not None and decided.state is not State.SUCCEEDED:
        batch.book.release(command.request_id)
    if result.decision is not None and not result.is_repeated:
        ledger.changes.add_decision(decided, result.decision)
    request_events.add_done(
        organisation, command.actor.origin, result, ledger.changes, command.decision_id, command.salt, now
    )
    return decided
