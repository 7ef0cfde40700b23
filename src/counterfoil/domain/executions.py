"""Executing an approved request on an external host: what is to be done next, and what an answer changes.

Whoever claimed the request has its `fence`; who comes with an older one changes nothing. A call whose answer was
lost leaves the request unknown: it is looked up, repeated where a repeat is harmless, else an incident for a person.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain.attempts import REPEATS, Judgement, LookUpBy, Verdict, next_attempt_after
from counterfoil.domain.calls import sent_reference
from counterfoil.domain.intouch_answers import DUPLICATE_REFERENCE, ITEM_MESSAGES, Executed
from counterfoil.domain.organisations import Host
from counterfoil.domain.requests import Request, State

OPEN: Final = frozenset({State.APPROVED, State.UNKNOWN})
LOOK_UP_SECONDS_MAX: Final = 300.0
HELD_REFERENCE_SECONDS: Final = 10.0
_EVIDENCE: Final = ("redemption_id", "points_redeemed", "external_reference_number")
_NOT_ANSWERED: Final = frozenset({Verdict.UNKNOWN, Verdict.ALREADY_DONE})
_MAYBE_DONE: Final = _NOT_ANSWERED | {Verdict.SUCCEEDED}  # of a request that has not ended: the answer came too late


class Attempt(Struct, frozen=True):
    """One outbound call as it is stored. `maybe_sent` is False only when surely nothing left."""

    number: int
    state: str
    fence: int
    outcome: str | None
    planned_at: datetime
    answered_at: datetime | None
    maybe_sent: bool

    def in_doubt(self, fence: int) -> bool:
        """Whether it may have an effect that nobody has heard of; `fence` is of who knows that it sent nothing."""
        if self.outcome is None:
            return self.maybe_sent and self.fence != fence
        return self.outcome in _MAYBE_DONE


class Execution(Struct, frozen=True):
    """What the database knows about a request that is executed outside, under lock."""

    request: Request
    attempts: Sequence[Attempt] = ()
    look_ups: int = 0
    look_ups_of_last: int = 0
    has_incident: bool = False
    holder: UUID | None = None
    holder_succeeded: bool = False
    sealed_headers: bytes = b""


class Pace(Struct, frozen=True):
    """How long is waited before the second attempt and the second look-up; then it doubles."""

    retry_seconds: float = 1.0
    look_up_seconds: float = 2.0


class Call(Struct, frozen=True):
    """Make this attempt. `repeated`: an earlier one may have left; `doubtful`: and may have been executed."""

    number: int
    repeated: bool
    doubtful: bool


class Search(Struct, frozen=True):
    """Look up what became of this attempt."""

    number: int
    attempt: int


class Trouble(Struct, frozen=True):
    """Why no machine can go on: the content of an incident. `kind` is a short word."""

    kind: str
    message: str


class Moved(Struct, frozen=True):
    """A request after one step, what is to be done now, and what else is to be written.

    `lost` is the attempt whose maker has gone; `late` tells that the answer is kept and changes nothing.
    """

    request: Request
    step: Call | Search | None = None
    trouble: Trouble | None = None
    lost: int | None = None
    late: bool = False
    again: bool = False


def reference_of(request: Request) -> str:
    """The key by which the host knows the request: what the call carries, else one of ours."""
    return sent_reference(request.request_id, request.request_type, request.payload) or f"CF-{request.request_id}"


def begin(execution: Execution, host: Host | None, fence: int, *, now: datetime) -> Moved:
    """What the claimant has to do now: a call, a look-up, or nothing."""
    request = execution.request
    if request.fence != fence or request.state not in OPEN or execution.has_incident:
        return Moved(request)
    if host is None or host.revision != request.host_revision or not host.is_external:
        return _leave(
            execution, request, "host_changed", "the entry of the host table was changed after the submission"
        )
    last = execution.attempts[-1] if execution.attempts else None
    if last is not None and last.state != "answered" and last.outcome is None:
        if last.fence == fence:  # planned by us, and COMMIT's answer was lost: nothing has left yet
            return Moved(request, _call(execution, last.number))
        lost = replace(last, outcome=Verdict.UNKNOWN)
        execution = replace(execution, attempts=(*execution.attempts[:-1], lost))
        moved = _resolve(execution, _to(request, State.UNKNOWN), host, now)
        return replace(moved, lost=last.number)
    if request.state is State.UNKNOWN:
        return _resolve(execution, request, host, now)
    if last is not None and last.outcome in _MAYBE_DONE and not execution.look_ups_of_last:
        # Its maker's answer came after our claim and before this, so it has changed nothing: nobody has looked yet.
        unknown = _to(request, State.UNKNOWN)
        return _resolve(replace(execution, request=unknown), unknown, host, now)
    return _plan(execution, request, now)


def _plan(execution: Execution, request: Request, now: datetime) -> Moved:
    if execution.holder not in (None, request.request_id):
        if execution.holder_succeeded:
            return Moved(_end(request, _used(request), now))
        return Moved(_rest(request, now + timedelta(seconds=HELD_REFERENCE_SECONDS)))
    # However late it is, what is due is tried: a freeze or a pause has not used up its time.
    return Moved(request, _call(execution, len(execution.attempts) + 1))


def _call(execution: Execution, number: int) -> Call:
    earlier = [each for each in execution.attempts if each.number < number]
    by_repeat = REPEATS[execution.request.request_type].look_up is LookUpBy.REPEAT
    is_unknown = execution.request.state is State.UNKNOWN  # after a restore even without an attempt on record
    return Call(
        number,
        repeated=is_unknown or any(each.maybe_sent for each in earlier),
        doubtful=by_repeat and (is_unknown or any(each.outcome in _NOT_ANSWERED for each in earlier)),
    )


def _resolve(execution: Execution, request: Request, host: Host, now: datetime) -> Moved:
    """The next thing to do about a lost answer."""
    number = len(execution.attempts)
    match _look_up_by(request, host):
        case LookUpBy.NOTHING:
            return _stuck(request, "no_look_up", "the answer was lost, and this type of request cannot be looked up")
        case LookUpBy.REPEAT:
            if _is_over(execution, host, now):
                return _stuck(request, "no_verdict", "what became of the call could not be found out in time")
            return Moved(request, _call(execution, number + 1))
        case _:
            if execution.look_ups_of_last and _is_over(execution, host, now):
                return _stuck(request, "no_verdict", "what became of the call could not be found out in time")
            return Moved(request, Search(execution.look_ups + 1, number))


def _look_up_by(request: Request, host: Host) -> LookUpBy:
    return REPEATS[request.request_type].look_up if host.look_up else LookUpBy.NOTHING


def settle_attempt(
    execution: Execution,
    host: Host | None,
    *,
    number: int,
    fence: int,
    judgement: Judgement,
    executed: Executed | None,
    pace: Pace,
    jitter: float,
    now: datetime,
) -> Moved:
    """What the answer to an attempt changes. An answer that comes with an old fence is kept as evidence only."""
    request = execution.request
    attempt = execution.attempts[number - 1]
    if attempt.state == "answered":
        return Moved(request)
    if request.fence != fence or request.state not in OPEN or execution.has_incident:
        return Moved(request, late=True)
    verdict = judgement.verdict
    if verdict is Verdict.SUCCEEDED and executed is not None:
        return Moved(_end(request, executed, now))
    if verdict is Verdict.FAILED and executed is not None:
        if judgement.unauthorized and host is not None and host.credential_sealed:
            return _stuck(request, "credential", "the entry's own credential is refused: correct it, and submit again")
        return Moved(_end(request, executed, now))
    if verdict is Verdict.RETRY:
        wait = next_attempt_after(number, judgement, jitter=jitter, first_seconds=pace.retry_seconds)
        due_at = now + timedelta(seconds=wait)
        if host is None:
            return Moved(_rest(request, due_at))
        over_at = execution.attempts[0].planned_at + timedelta(seconds=host.overall_seconds)
        return _give_up(execution, request, now) if now >= over_at else Moved(_rest(request, min(due_at, over_at)))
    wait = next_attempt_after(number, judgement, jitter=jitter, first_seconds=pace.look_up_seconds)
    return _doubt(_to(request, State.UNKNOWN), host, judgement, executed, now, wait)


def _doubt(
    request: Request, host: Host | None, judgement: Judgement, executed: Executed | None, now: datetime, wait: float
) -> Moved:
    """Nobody knows what became of the call: look it up, at once where it seems to be done already."""
    if judgement.needs_person:
        return _stuck(request, "needs_person", f"the answer needs a person to judge it: {judgement.message}")
    if host is None or _look_up_by(request, host) is LookUpBy.NOTHING:
        return _stuck(request, "no_look_up", "the answer was lost, and this type of request cannot be looked up")
    if judgement.verdict is Verdict.ALREADY_DONE:
        if _look_up_by(request, host) is LookUpBy.REPEAT and executed is not None:
            return Moved(_end(request, replace(executed, by="repeat", succeeded=True), now))
        return Moved(request, again=True)
    return Moved(_rest(request, now + timedelta(seconds=wait)))


def settle_look_up(
    execution: Execution,
    host: Host | None,
    *,
    fence: int,
    verdict: str,
    executed: Executed | None,
    pace: Pace,
    now: datetime,
) -> Moved:
    """What a look-up changes: found → succeeded; absent for long enough → one more attempt; else look again."""
    request = execution.request
    if request.fence != fence or request.state is not State.UNKNOWN or execution.has_incident or host is None:
        return Moved(request, late=True)
    if verdict == "found" and executed is not None:
        return Moved(_end(request, executed, now))
    last = execution.attempts[-1] if execution.attempts else None
    count = execution.look_ups_of_last + 1
    wait = min(pace.look_up_seconds * 2.0 ** min(count, 30), LOOK_UP_SECONDS_MAX)
    is_done = last is not None and last.outcome == Verdict.ALREADY_DONE
    if verdict == "absent" and host.absent_after_seconds is not None and not is_done:
        quiet_until = _ended_at(request, last, host) + timedelta(seconds=host.absent_after_seconds)
        if now >= quiet_until:
            if sum(each.outcome == Verdict.UNKNOWN for each in execution.attempts) > 1:
                return _stuck(request, "lost_again", "the answer to the repeated call was lost as well")
            return Moved(_to(request, State.APPROVED), again=True)
        wait = min(wait, (quiet_until - now).total_seconds())
    elif _is_over(execution, host, now):
        return _stuck(request, "no_verdict", "what became of the call could not be found out in time")
    return Moved(_rest(request, now + timedelta(seconds=wait)))


def _ended_at(request: Request, last: Attempt | None, host: Host) -> datetime:
    """When the last call was over at the latest, as far as we know."""
    if last is None:
        return request.decided_at or request.started_at
    return last.answered_at or last.planned_at + timedelta(seconds=host.attempt_seconds)


def doubt(execution: Execution, *, now: datetime) -> Moved:
    """After a restore: what was to be executed may have been, and whoever was at it has an old fence."""
    request = execution.request
    if request.state is not State.APPROVED or execution.has_incident:
        return Moved(request)
    return Moved(replace(_rest(_to(request, State.UNKNOWN), now), fence=request.fence + 1))


def postpone(execution: Execution, host: Host | None, *, fence: int, seconds: float, now: datetime) -> Moved:
    """Give the claim back: nothing was sent, and nobody tries before this time; unless the time is over."""
    request = execution.request
    if request.fence != fence or request.state not in OPEN or execution.has_incident:
        return Moved(request)
    since = execution.attempts[0].planned_at if execution.attempts else request.decided_at
    if host is not None and since is not None and now >= since + timedelta(seconds=host.overall_seconds):
        return _give_up(execution, request, now)
    return Moved(_rest(request, now + timedelta(seconds=seconds)))


def _is_over(execution: Execution, host: Host, now: datetime) -> bool:
    """Whether the time for all attempts and look-ups has passed since the first attempt."""
    if not execution.attempts:
        return False
    return now >= execution.attempts[0].planned_at + timedelta(seconds=host.overall_seconds)


def _give_up(execution: Execution, request: Request, now: datetime) -> Moved:
    """Every attempt surely had no effect, or a person must find out."""
    if _in_doubt(execution, request):
        return _leave(execution, request, "no_verdict", "the time is over")
    message = "the host could not carry out the call in time; nothing was executed"
    return Moved(_end(request, _refused(request, 503, 889, message), now))


def _in_doubt(execution: Execution, request: Request) -> bool:
    """Whether a call may have had its effect without anybody knowing."""
    return request.state is State.UNKNOWN or any(each.in_doubt(request.fence) for each in execution.attempts)


def _used(request: Request) -> Executed:
    return _refused(request, 200, DUPLICATE_REFERENCE, ITEM_MESSAGES[DUPLICATE_REFERENCE])


def _refused(request: Request, status: int, code: int, message: str) -> Executed:
    """A failure that is ours to tell: no host has answered it, so it has no headers."""
    body = _told_body(request, code, message, succeeded=False)
    return Executed("counterfoil", False, status, {}, body, reference_of(request), code, message)  # noqa: FBT003


def _told_body(request: Request, code: int, message: str, *, succeeded: bool) -> str:
    """What the host's own answer would have said, as far as it is known."""
    if REPEATS[request.request_type].family != "v1.1":
        errors = [] if succeeded else [{"status": False, "code": code, "message": message}]
        return json.dumps({"errors": errors, "warnings": []})
    whole = {"success": "true", "code": 200, "message": "Success"}
    if not succeeded:
        whole = {"success": "false", "code": 500, "message": "All requests have failed due to errors"}
    item = {"item_status": {"success": "true" if succeeded else "false", "code": code, "message": message}}
    return json.dumps({"response": {"status": whole, "responses": {"points": item}}})


def stuck(request: Request, trouble: Trouble) -> Moved:
    """An incident: executors leave the request alone until people have settled it."""
    return Moved(_rest(request, None), trouble=trouble)


def _stuck(request: Request, kind: str, message: str) -> Moved:
    return stuck(request, Trouble(kind, message))


def _leave(execution: Execution, request: Request, kind: str, why: str) -> Moved:
    """An incident that says whether a call may have had its effect already."""
    lost = next((each.number for each in execution.attempts if each.in_doubt(request.fence) and not each.outcome), None)
    if _in_doubt(execution, request):
        moved = _stuck(_to(request, State.UNKNOWN), kind, f"{why}, and what became of an earlier call is not known")
        return replace(moved, lost=lost)
    return _stuck(request, kind, f"{why}; no call has had an effect")


def _to(request: Request, state: State) -> Request:
    if request.state is state:
        return request
    return replace(request, state=state, version=request.version + 1)


def _rest(request: Request, due_at: datetime | None) -> Request:
    return replace(request, due_at=due_at, lease_owner=None, lease_until=None)


def _end(request: Request, executed: Executed, now: datetime) -> Request:
    state = State.SUCCEEDED if executed.succeeded else State.FAILED
    return replace(_rest(_to(request, state), None), ended_at=now, executed=executed)


def found(request: Request, evidence: Mapping[str, Any]) -> Executed:
    """The answer that a look-up has found instead: success, and what was read of it."""
    body = json.loads(_told_body(request, 800, "Points Redeemed", succeeded=True))
    if REPEATS[request.request_type].family == "v1.1":
        kept = {name: evidence[name] for name in _EVIDENCE if name in evidence}
        body["response"]["responses"]["points"] = kept | body["response"]["responses"]["points"]
    text = json.dumps(body, default=str)
    return Executed("look-up", True, 200, {}, text, reference_of(request), 800, "found by a look-up")  # noqa: FBT003


def end_by_people(request: Request, *, succeeded: bool, now: datetime) -> Request:
    """A request whose incident was settled: what people found out stands for the answer."""
    code, message = (800, "Executed, as people found out") if succeeded else (889, "Not executed, as people found out")
    body = _told_body(request, code, message, succeeded=succeeded)
    return _end(request, Executed("people", succeeded, 200, {}, body, reference_of(request), code, message), now)
