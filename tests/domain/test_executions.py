"""What is to be done next about a call, and what an answer changes: the rules, without a database."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from counterfoil.application import ids
from counterfoil.domain.attempts import Judgement, Verdict
from counterfoil.domain.executions import (
    Attempt,
    Call,
    Execution,
    Moved,
    Pace,
    Search,
    begin,
    doubt,
    postpone,
    settle_attempt,
    settle_look_up,
)
from counterfoil.domain.intouch_answers import Executed
from counterfoil.domain.organisations import Host
from counterfoil.domain.requests import Request, State

PAYLOAD = b'{"body":{"root":{"redeem":{}}}}'
NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOST = Host("h", "https", "a.example.com", 443, "external", absent_after_seconds=60.0, overall_seconds=600.0)
REQUEST = Request(
    request_id=ids.uuid7(), request_type="POINTS-REDEMPTION", state=State.APPROVED, maker_person_id="E-1",
    maker_user_id=1, maker_user_name="m", unit_id=1, points=1000, host_id="h", host_revision=1, payload=PAYLOAD,
    digest=b"d", approvals_required=1, started_at=NOW, decided_at=NOW, due_at=NOW, fence=3,
)  # fmt: skip
DONE = Executed("answer", True, 200, {}, "{}", "REF", 800, "Points Redeemed")  # noqa: FBT003
SECONDS = timedelta(seconds=1)


def made(number: int, outcome: str | None, *, state: str = "answered", at: datetime = NOW, fence: int = 3) -> Attempt:
    answered_at = at if state == "answered" else None
    return Attempt(number, state, fence, outcome, at, answered_at, maybe_sent=outcome != "retry")


def execution(*attempts: Attempt, **changes: Any) -> Execution:
    request = {name: changes.pop(name) for name in ("state", "request_type", "fence") if name in changes}
    return Execution(replace(REQUEST, **request), attempts, **changes)


def answered(file: Execution, verdict: Verdict, *, fence: int = 3, host: Host | None = HOST, **facts: Any) -> Moved:
    now = facts.pop("now", NOW)
    judgement = Judgement(verdict, facts.pop("code", None), "told", **facts)
    executed = replace(DONE, succeeded=verdict is Verdict.SUCCEEDED)
    return settle_attempt(
        file, host, number=len(file.attempts), fence=fence, judgement=judgement, executed=executed,
        pace=Pace(), jitter=0.5, now=now,
    )  # fmt: skip


def looked_up(file: Execution, verdict: str, after: float, host: Host = HOST) -> Moved:
    executed = DONE if verdict == "found" else None
    return settle_look_up(
        file, host, fence=3, verdict=verdict, executed=executed, pace=Pace(), now=NOW + after * SECONDS
    )


PLANNED = made(1, None, state="planned")
UNKNOWN = made(1, "unknown")


@pytest.mark.parametrize(
    ("file", "step"),
    [
        (execution(), Call(1, repeated=False, doubtful=False)),
        (execution(made(1, "retry")), Call(2, repeated=False, doubtful=False)),
        (execution(PLANNED), Call(1, repeated=False, doubtful=False)),
        (execution(replace(PLANNED, fence=2)), Search(1, 1)),
        (execution(UNKNOWN, state=State.UNKNOWN), Search(1, 1)),
        (execution(UNKNOWN, look_ups=1, look_ups_of_last=1), Call(2, repeated=True, doubtful=False)),
        (execution(UNKNOWN, state=State.UNKNOWN, request_type="EARN-BADGE"), Call(2, repeated=True, doubtful=True)),
        (execution(state=State.UNKNOWN), Search(1, 0)),
        (execution(fence=4), None),
        (execution(has_incident=True), None),
        (execution(state=State.SUCCEEDED), None),
        (execution(holder=ids.uuid7()), None),
    ],
)
def test_what_to_do_next(file: Execution, step: Call | Search | None) -> None:
    moved = begin(file, HOST, 3, now=NOW)
    assert moved.step == step
    assert moved.trouble is None


def test_a_lost_attempt_is_unknown_and_never_blindly_repeated() -> None:
    lost = execution(replace(PLANNED, fence=2), request_type="GOODWILL-POINTS")
    moved = begin(lost, HOST, 3, now=NOW)
    assert (moved.lost, moved.step, moved.request.state, moved.request.due_at) == (1, None, State.UNKNOWN, None)
    assert moved.trouble is not None
    assert moved.trouble.kind == "no_look_up"


LATE = [made(1, outcome, fence=2) for outcome in ("unknown", "already_done", "succeeded")]


@pytest.mark.parametrize("late", LATE, ids=lambda each: each.outcome)
def test_an_answer_between_the_next_claim_and_its_begin_is_no_reason_for_another_call(late: Attempt) -> None:
    moved = begin(execution(late), HOST, 3, now=NOW)
    assert (moved.step, moved.request.state, moved.trouble) == (Search(1, 1), State.UNKNOWN, None)
    moved = begin(execution(late, request_type="GOODWILL-POINTS"), HOST, 3, now=NOW)
    assert (moved.step, moved.request.state) == (None, State.UNKNOWN)
    assert moved.trouble is not None
    moved = begin(execution(late, request_type="EARN-BADGE"), HOST, 3, now=NOW)
    assert (moved.step, moved.request.state) == (Call(2, repeated=True, doubtful=True), State.UNKNOWN)


@pytest.mark.parametrize("late", LATE, ids=lambda each: each.outcome)
def test_what_a_late_answer_says_is_never_told_as_not_executed(late: Attempt) -> None:
    moved = postpone(execution(late), HOST, fence=3, seconds=1.0, now=NOW + 601 * SECONDS)
    assert moved.trouble is not None
    assert moved.request.state is State.UNKNOWN


@pytest.mark.parametrize("late", [made(1, "retry", fence=2), made(1, "failed", fence=2)])
def test_after_a_late_answer_without_effect_the_next_call_is_due(late: Attempt) -> None:
    step = begin(execution(late), HOST, 3, now=NOW).step
    assert isinstance(step, Call)
    assert step.number == 2


@pytest.mark.parametrize("host", [None, replace(HOST, revision=2), replace(HOST, target="ledger")])
def test_a_changed_entry_stops_it(host: Host | None) -> None:
    moved = begin(execution(), host, 3, now=NOW)
    assert moved.trouble is not None
    assert (moved.trouble.kind, moved.step, moved.request.lease_owner) == ("host_changed", None, None)


def test_a_reference_that_has_succeeded_is_744_without_a_call() -> None:
    moved = begin(execution(holder=ids.uuid7(), holder_succeeded=True), HOST, 3, now=NOW)
    assert moved.request.state is State.FAILED
    assert moved.request.executed is not None
    assert moved.request.executed.code == 744


@pytest.mark.parametrize(
    ("attempts", "state", "kind", "lost"),
    [
        ((made(1, "retry"),), State.FAILED, None, None),
        ((UNKNOWN, made(2, "retry")), State.UNKNOWN, "no_verdict", None),
        ((replace(PLANNED, fence=2),), State.UNKNOWN, "no_verdict", 1),  # its maker was killed: it may have left
        ((PLANNED,), State.FAILED, None, None),  # our own: we know that it has not
    ],
)
def test_when_the_time_is_over(attempts: tuple[Attempt, ...], state: State, kind: str | None, lost: int | None) -> None:
    moved = postpone(execution(*attempts), HOST, fence=3, seconds=1, now=NOW + 601 * SECONDS)
    assert (moved.request.state, moved.trouble and moved.trouble.kind, moved.lost) == (state, kind, lost)


def test_try_later_is_told_until_the_time_is_over() -> None:
    """What is due then is tried even if it is late, for a freeze or a pause may have been in the way."""
    file = execution(made(1, "retry"), made(2, None, state="planned"))
    soon = answered(file, Verdict.RETRY, retry_after_seconds=3600.0, now=NOW + 10 * SECONDS)
    assert soon.request.due_at == NOW + 600 * SECONDS
    assert begin(execution(made(1, "retry")), HOST, 3, now=NOW + 3600 * SECONDS).step == Call(
        2, repeated=False, doubtful=False
    )
    late = answered(file, Verdict.RETRY, now=NOW + 600 * SECONDS)
    assert late.request.state is State.FAILED
    assert late.request.executed is not None
    assert late.request.executed.code == 889


def test_a_changed_entry_does_not_hide_that_a_call_may_have_left() -> None:
    moved = begin(execution(replace(PLANNED, fence=2)), replace(HOST, revision=9), 3, now=NOW)
    assert (moved.lost, moved.request.state) == (1, State.UNKNOWN)
    assert moved.trouble is not None
    assert "what became of an earlier call is not known" in moved.trouble.message
    untouched = begin(execution(made(1, "retry")), replace(HOST, revision=9), 3, now=NOW)
    assert untouched.trouble is not None
    assert "no call has had an effect" in untouched.trouble.message


@pytest.mark.parametrize(
    ("verdict", "facts", "state", "kind"),
    [
        (Verdict.SUCCEEDED, {}, State.SUCCEEDED, None),
        (Verdict.FAILED, {}, State.FAILED, None),
        (Verdict.RETRY, {}, State.APPROVED, None),
        (Verdict.UNKNOWN, {}, State.UNKNOWN, None),
        (Verdict.ALREADY_DONE, {}, State.UNKNOWN, None),
        (Verdict.UNKNOWN, {"needs_person": True}, State.UNKNOWN, "needs_person"),
    ],
)
def test_an_answer(verdict: Verdict, facts: dict[str, Any], state: State, kind: str | None) -> None:
    moved = answered(execution(PLANNED), verdict, **facts)
    assert (moved.request.state, moved.trouble and moved.trouble.kind) == (state, kind)
    assert moved.again == (verdict is Verdict.ALREADY_DONE)
    assert (moved.request.ended_at is not None) == (state in (State.SUCCEEDED, State.FAILED))
    is_due = moved.request.due_at is not None
    assert is_due == (state in (State.APPROVED, State.UNKNOWN) and kind is None)


def test_the_own_credential_refused_is_an_incident() -> None:
    own = replace(HOST, credential_sealed="00")
    assert answered(execution(PLANNED), Verdict.FAILED, unauthorized=True).request.state is State.FAILED
    moved = answered(execution(PLANNED), Verdict.FAILED, unauthorized=True, host=own)
    assert moved.trouble is not None
    assert (moved.trouble.kind, moved.request.state) == ("credential", State.APPROVED)


def test_a_late_answer_changes_nothing() -> None:
    file = execution(PLANNED, fence=4)
    moved = answered(file, Verdict.SUCCEEDED)
    assert (moved.late, moved.request) == (True, file.request)


def test_retry_after_is_kept() -> None:
    moved = answered(execution(PLANNED), Verdict.RETRY, retry_after_seconds=120.0)
    assert moved.request.due_at == NOW + 120 * SECONDS


def test_found_is_succeeded() -> None:
    moved = looked_up(execution(UNKNOWN, state=State.UNKNOWN), "found", 1)
    assert (moved.request.state, moved.request.executed) == (State.SUCCEEDED, DONE)


def test_absent_counts_only_after_the_quiet_time() -> None:
    file = execution(UNKNOWN, state=State.UNKNOWN)
    early = looked_up(file, "absent", 59)
    assert (early.request.state, early.request.due_at) == (State.UNKNOWN, NOW + 60 * SECONDS)
    late = looked_up(file, "absent", 60)
    assert (late.request.state, late.again) == (State.APPROVED, True)
    twice = looked_up(execution(UNKNOWN, made(2, "unknown"), state=State.UNKNOWN), "absent", 60)
    assert twice.trouble is not None
    assert twice.trouble.kind == "lost_again"


@pytest.mark.parametrize(
    ("file", "host", "verdict"),
    [
        (execution(UNKNOWN, state=State.UNKNOWN), HOST, "no_verdict"),
        (execution(UNKNOWN, state=State.UNKNOWN), replace(HOST, absent_after_seconds=None), "absent"),
        (execution(made(1, "already_done"), state=State.UNKNOWN), HOST, "absent"),
    ],
)
def test_no_verdict_in_time_is_an_incident(file: Execution, host: Host, verdict: str) -> None:
    assert looked_up(file, verdict, 500, host).trouble is None
    moved = looked_up(file, verdict, 600, host)
    assert moved.trouble is not None
    assert (moved.trouble.kind, moved.request.state) == ("no_verdict", State.UNKNOWN)


def test_after_a_restore_what_is_approved_is_doubted_and_fenced() -> None:
    moved = doubt(execution(), now=NOW)
    assert (moved.request.state, moved.request.fence, moved.request.due_at) == (State.UNKNOWN, 4, NOW)
    assert doubt(execution(state=State.UNKNOWN), now=NOW).request.fence == 3
