"""The verbs of execution on external hosts: begin (the intent commits before a byte leaves) and settle.

Each takes a list of commands in one transaction: lock the requests, decide, write. A fence that is no longer the
request's changes nothing; what came late is kept as evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from counterfoil.application import counting
from counterfoil.domain import executions as rules
from counterfoil.domain.answers import shown_headers
from counterfoil.domain.attempts import Failure, Judgement, Reply
from counterfoil.domain.calls import build_call
from counterfoil.domain.executions import Call, Execution, Moved, Pace, Search, Trouble
from counterfoil.domain.intouch_answers import Executed
from counterfoil.domain.look_ups import Absent, Found, NoVerdict
from counterfoil.domain.organisations import Host, Organisation
from counterfoil.domain.refusals import Refusal
from counterfoil.domain.requests import Request, State
from counterfoil.domain.seals import make_event
from counterfoil.domain.voices import frozen
from counterfoil.storage import attempts, organisations, restores
from counterfoil.storage.changes import Changes, write
from counterfoil.storage.database import Tx

PAUSED_SECONDS: Final = 5.0
FROZEN_SECONDS: Final = 1.0
BODY_KEPT_MAX: Final = 64 * 1024  # characters of an answer that are kept as evidence
_encode: Final = msgspec.json.Encoder(decimal_format="number", enc_hook=str).encode


class Begin(Struct, frozen=True):
    """Who claimed a request with this fence asks what to do. The ids are made once."""

    event_id: UUID
    request_id: UUID
    fence: int
    owner: str
    salt: bytes


class Answered(Struct, frozen=True):
    """An attempt has an answer, or surely or perhaps none."""

    event_id: UUID
    request_id: UUID
    fence: int
    number: int
    answer: Reply | Failure
    judgement: Judgement
    seconds: float
    pace: Pace
    jitter: float
    salt: bytes


class LookedUp(Struct, frozen=True):
    """A look-up of an attempt has an answer."""

    event_id: UUID
    request_id: UUID
    fence: int
    number: int
    attempt: int
    answer: Found | Absent | NoVerdict
    seconds: float
    pace: Pace
    salt: bytes


class Postponed(Struct, frozen=True):
    """Nothing was sent: the claim is given back until later."""

    event_id: UUID
    request_id: UUID
    fence: int
    seconds: float
    salt: bytes


class Doubt(Struct, frozen=True):
    """The database was restored: whoever executes this has an old fence, and maybe it was executed."""

    event_id: UUID
    request_id: UUID
    fence: int
    salt: bytes


Settle = Answered | LookedUp | Postponed


class Work(Struct, frozen=True):
    """What a claimant has to do: `step` with this host entry; None when there is nothing."""

    request: Request
    step: Call | Search | None = None
    host: Host | None = None
    sealed_headers: bytes = b""
    again: bool = False
    organisation_version: int = 0


async def begin_attempts(tx: Tx, organisation: Organisation, commands: Sequence[Begin]) -> list[Work | None]:
    """Each claimed request gets its next step; an attempt is on record before it is made."""
    loaded = await attempts.lock_executions(tx, organisation.org_id, sorted({each.request_id for each in commands}))
    if loaded is None:
        return [None for _ in commands]
    organisation = await _fresh(tx, organisation, loaded.organisation_version)
    claims = {each: claim_of(found.request) for each, found in loaded.executions.items()}
    holders = await attempts.list_holders(tx, organisation.org_id, list(claims.values()))
    paused = await restores.why_paused(tx)
    batch = _Batch(organisation, loaded.now, Changes())
    outcomes: list[Work | None] = []
    for command in commands:
        execution = loaded.executions.get(command.request_id)
        if execution is None:
            outcomes.append(None)
            continue
        if paused is not None or frozen(organisation, execution.request, None) is not None:
            # Nothing leaves, not even a look-up. Without its host entry nothing is given up: nobody judges now.
            seconds = FROZEN_SECONDS if paused is None else PAUSED_SECONDS
            moved = rules.postpone(execution, None, fence=command.fence, seconds=seconds, now=loaded.now)
            batch.keep(execution, moved, command)
            outcomes.append(Work(moved.request, organisation_version=organisation.version))
            continue
        holder, succeeded = holders.get(claims[command.request_id], (None, False))
        execution = replace(execution, holder=holder, holder_succeeded=succeeded)
        outcomes.append(_begin_one(execution, command, batch))
    await _give_back(tx, organisation, loaded.organisation_version, batch)
    await write(tx, organisation.org_id, batch.changes)
    return outcomes


async def _give_back(tx: Tx, organisation: Organisation, version: int, batch: _Batch) -> None:
    """Take what has failed out of the counters of the policy's caps."""
    if batch.failed:
        organisation = await _fresh(tx, organisation, version)  # an old snapshot may not know that there are caps
        book = await counting.lock_for_ending(tx, organisation, batch.failed)
        for request_id in batch.failed:
            book.release(request_id)
        batch.changes.add_counted(book)


async def _fresh(tx: Tx, organisation: Organisation, version: int) -> Organisation:
    """The snapshot under lock: an entry of the host table that was just changed must not be called."""
    if organisation.version == version:
        return organisation
    found = await organisations.find_organisation(tx, organisation.org_id)
    if found is None:
        raise AssertionError("a request's organisation exists (this is a bug)")
    return found


def claim_of(request: Request) -> tuple[str, str, str]:
    """The reference that the request claims at its host, among the requests of its type."""
    return request.host_id, request.request_type, rules.reference_of(request)


def _begin_one(execution: Execution, command: Begin, batch: _Batch) -> Work:
    request = execution.request
    host = batch.organisation.host(request.host_id)
    moved = rules.begin(execution, host, command.fence, now=batch.now)
    step = moved.step
    if isinstance(step, Call) and host is not None and step.number > len(execution.attempts):
        digest = _digest_of(request, host)
        if isinstance(digest, Refusal):
            moved = rules.stuck(moved.request, Trouble("cannot_be_called", digest.message))
        else:
            claim = claim_of(request)
            batch.changes.attempts.append(
                (request.request_id, step.number, command.fence, host.host_id, claim[-1], digest, command.owner)
            )
            if execution.holder is None:
                batch.changes.reference_claims.append((*claim, request.request_id))
    batch.keep(execution, moved, command)
    version = batch.organisation.version
    return Work(moved.request, moved.step, host, execution.sealed_headers, organisation_version=version)


def _digest_of(request: Request, host: Host) -> bytes | Refusal:
    """The digest of the exact bytes: method, address and body. Headers carry secrets and stay out."""
    call = build_call(request.request_id, request.request_type, request.payload, {}, host, deadline_seconds=1)
    if isinstance(call, Refusal):
        return call
    return sha256(b"%b %b\n%b" % (call.method.encode(), call.url.encode(), call.body)).digest()


async def settle_attempts(tx: Tx, organisation: Organisation, commands: Sequence[Settle]) -> list[Work | None]:
    """Each answer moves its request on, opens an incident or is kept as evidence only."""
    loaded = await attempts.lock_executions(tx, organisation.org_id, sorted({each.request_id for each in commands}))
    if loaded is None:
        return [None for _ in commands]
    batch = _Batch(organisation, loaded.now, Changes())
    outcomes: list[Work | None] = []
    for command in commands:
        execution = loaded.executions.get(command.request_id)
        if execution is None:
            outcomes.append(None)
            continue
        host = organisation.host(execution.request.host_id)
        match command:
            case Answered():
                moved = _settle_answer(execution, host, command, batch)
            case LookedUp():
                moved = _settle_look_up(execution, host, command, batch)
            case Postponed():
                moved = rules.postpone(execution, host, fence=command.fence, seconds=command.seconds, now=batch.now)
        batch.keep(execution, moved, command)
        outcomes.append(Work(moved.request, again=moved.again))
    await _give_back(tx, organisation, loaded.organisation_version, batch)
    await write(tx, organisation.org_id, batch.changes)
    return outcomes


def _settle_answer(execution: Execution, host: Host | None, command: Answered, batch: _Batch) -> Moved:
    if execution.attempts[command.number - 1].state == "answered":  # a batch that is run again
        return Moved(execution.request, again=execution.request.fence == command.fence)
    answer, judgement = command.answer, command.judgement
    executed = None
    if isinstance(answer, Reply):
        shown = answer.shown()
        succeeded = judgement.verdict == "succeeded"
        executed = Executed(
            "answer", succeeded, shown["status"], shown["headers"], _encode(shown["body"]).decode(),
            rules.reference_of(execution.request), judgement.code, judgement.message,
        )  # fmt: skip
    moved = rules.settle_attempt(
        execution, host, number=command.number, fence=command.fence, judgement=judgement, executed=executed,
        pace=command.pace, jitter=command.jitter, now=batch.now,
    )  # fmt: skip
    was_sent = isinstance(answer, Reply) or answer.sent
    sent_at = batch.now - timedelta(seconds=command.seconds) if was_sent else None
    batch.changes.answered_attempts.append((
        command.request_id, command.number, judgement.verdict.value, response_of(answer, judgement), sent_at,
        batch.now, moved.late,
    ))  # fmt: skip
    return moved


def response_of(answer: Reply | Failure, judgement: Judgement) -> bytes:
    """What came back, as evidence: the shown headers, the body up to a limit, and what it was taken for."""
    facts: dict[str, Any] = {"code": judgement.code, "message": judgement.message}
    if isinstance(answer, Reply):
        text = answer.body.decode(errors="replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")
        facts |= {"status": answer.status, "headers": shown_headers(answer.headers), "body": text[:BODY_KEPT_MAX]}
    else:
        facts |= {"failure": answer.kind, "sent": answer.sent}
    return _encode(facts)


def _settle_look_up(execution: Execution, host: Host | None, command: LookedUp, batch: _Batch) -> Moved:
    if command.number <= execution.look_ups:  # a batch that is run again
        return Moved(execution.request, again=execution.request.fence == command.fence)
    answer = command.answer
    match answer:
        case Found():
            verdict, facts = "found", dict(answer.evidence)
        case Absent():
            verdict, facts = "absent", {"message": answer.message}
        case NoVerdict():
            verdict, facts = "no_verdict", {"message": answer.message}
    executed = rules.found(execution.request, answer.evidence) if isinstance(answer, Found) else None
    moved = rules.settle_look_up(
        execution, host, fence=command.fence, verdict=verdict, executed=executed, pace=command.pace, now=batch.now
    )
    batch.changes.look_ups.append((
        command.request_id, command.number, command.attempt, verdict, _encode(facts),
        batch.now - timedelta(seconds=command.seconds), batch.now,
    ))  # fmt: skip
    return moved


async def doubt_requests(tx: Tx, organisation: Organisation, doubted: Sequence[tuple[UUID, UUID, bytes]]) -> None:
    """After a restore: these (event id, request, salt) may have been executed, and are looked up."""
    loaded = await attempts.lock_executions(tx, organisation.org_id, sorted(each for _, each, _ in doubted))
    if loaded is None:
        return
    batch = _Batch(organisation, loaded.now, Changes())
    for event_id, request_id, salt in doubted:
        execution = loaded.executions.get(request_id)
        if execution is not None:
            moved = rules.doubt(execution, now=loaded.now)
            batch.keep(execution, moved, Doubt(event_id, request_id, moved.request.fence, salt))
    await write(tx, organisation.org_id, batch.changes)


class _Batch(Struct, frozen=True):
    """What a batch writes."""

    organisation: Organisation
    now: datetime
    changes: Changes
    failed: list[UUID] = field(default_factory=list)

    def keep(self, execution: Execution, moved: Moved, command: Begin | Settle | Doubt) -> None:
        """Write what moved: the request, the lost attempt, the incident, and one event for each of them."""
        before, after = execution.request, moved.request
        if after is not before:
            self.changes.change_request(after)
        if moved.lost is not None:
            self.changes.answered_attempts.append((before.request_id, moved.lost, "unknown", None, None, None, False))
        if after.state is not before.state:
            self._add_event(command.event_id, after.state, before, after, command.salt, _facts_of(after, command))
        if moved.trouble is not None:
            incident_id = UUID(int=command.event_id.int + 1)  # after the event of the state, in order
            trouble = moved.trouble
            self.changes.incidents.append((incident_id, before.request_id, trouble.kind, trouble.message, self.now))
            facts = {"incident": str(incident_id), "reason": trouble.kind}
            self._add_event(incident_id, "incident_opened", before, after, command.salt, facts)
        if after.state is State.FAILED:
            self.changes.freed_references.append((*claim_of(after), after.request_id))
            self.failed.append(after.request_id)

    def _add_event(
        self, event_id: UUID, kind: str, before: Request, after: Request, salt: bytes, facts: Mapping[str, Any]
    ) -> None:
        told = {"from": before.state, "org": self.organisation.org_id, "state": after.state, **facts}
        self.changes.add_event(make_event(after.request_id, event_id, kind, self.now, salt, told, {}))


def _facts_of(request: Request, command: Begin | Settle | Doubt) -> dict[str, Any]:
    facts: dict[str, Any] = {"digest": request.digest.hex(), "fence": command.fence}
    if isinstance(command, Doubt):
        facts["reason"] = "restored"
    elif isinstance(command, Answered):
        facts |= {"attempt": command.number, "verdict": command.judgement.verdict}
    elif isinstance(command, LookedUp):
        facts |= {"attempt": command.attempt, "look_up": command.number}
    if request.executed is not None:
        facts |= {"by": request.executed.by, "code": request.executed.code, "reference": request.executed.reference}
    return facts
