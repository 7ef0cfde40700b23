"""One outbound call and what became of it: the one place that knows what an answer means.

    Failure(sent=False)          nothing left this machine          → RETRY
    Failure(sent=True)           cut, timed out, unreadable         → UNKNOWN
    2xx, the body says success                                      → SUCCEEDED
    2xx, the body says a failure                                    → FAILED with its code
    a "try later" code, 429, 503                                    → RETRY, or UNKNOWN where no repeat is harmless
    the type's "already done" code after an attempt of ours         → ALREADY_DONE (on a first attempt: FAILED)
    401, 403, other 4xx but 408                                     → FAILED
    3xx, 408, other 5xx, a body that cannot be read                 → UNKNOWN

UNKNOWN is never guessed away: it is looked up (`REPEATS`), else a person settles it (design.md §7).
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain.answers import Finding, find_code, read_body, shown_body, shown_headers
from counterfoil.domain.organisations import Host

FIRST_DELAY_SECONDS: Final = 1.0
DELAY_SECONDS_MAX: Final = 300.0
RETRY_AFTER_SECONDS_MAX: Final = 3600.0
TRY_LATER: Final = frozenset({429, 503, 521, 886, 887, 889, 894, 896, 898})
UNAUTHORIZED: Final = frozenset({401, 403, 498, 4000})
_DONE: Final = frozenset({None, 200, 201, 800})


class OutboundCall(Struct, frozen=True):
    """What is to be sent, exactly. `url` is absolute; `body` are the bytes (empty: none)."""

    request_id: UUID
    request_type: str
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    host: Host
    deadline_seconds: float


class Reply(Struct, frozen=True):
    """A complete answer: every byte of it came, within the limit."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header, in any case."""
        wanted = name.lower()
        return next((value for each, value in self.headers if each.lower() == wanted), None)

    def shown(self) -> dict[str, Any]:
        """`IntouchAPITask_Output` of the call."""
        return {"status": self.status, "headers": shown_headers(self.headers), "body": shown_body(self.body)}


class Failure(Struct, frozen=True):
    """No usable answer came. `sent` is False only when surely no byte of the request has left.

    `kind` is a short word for metrics: resolve, address, connect, tls, cut, timeout, too_large, unreadable.
    """

    sent: bool
    kind: str
    message: str


class Verdict(StrEnum):
    """What an attempt came to."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRY = "retry"
    UNKNOWN = "unknown"
    ALREADY_DONE = "already_done"


class Judgement(Struct, frozen=True):
    """The verdict with the code and message that the answer gave.

    `unauthorized`: the credential was refused (an incident where it is the host entry's own).
    `needs_person`: UNKNOWN that neither a look-up nor a repeat can clear up.
    """

    verdict: Verdict
    code: int | None
    message: str
    retry_after_seconds: float | None = None
    unauthorized: bool = False
    needs_person: bool = False


class LookUpBy(StrEnum):
    """How the outcome of a lost call is found out."""

    REDEMPTIONS = "redemptions"  # the member's redemptions, by reference
    STATUS = "status"  # the member's status label
    REPEAT = "repeat"  # the call itself again: its duplicate code is the proof
    NOTHING = "nothing"  # a person settles it


class Repeat(Struct, frozen=True):
    """What makes a repeat of a type's call harmless. `reference` is where the key stands in the body."""

    harmless: bool = True
    reference: tuple[str, ...] = ()
    done_code: int | None = None
    look_up: LookUpBy = LookUpBy.NOTHING
    family: str = "v2"


REPEATS: Final[Mapping[str, Repeat]] = {
    "POINTS-REDEMPTION": Repeat(
        reference=("root", "redeem", "external_reference_number"),
        done_code=744,
        look_up=LookUpBy.REDEMPTIONS,
        family="v1.1",
    ),
    "GOODWILL-POINTS": Repeat(harmless=False),  # its referenceId is only reserved as a key: it holds nothing back yet
    "EARN-BADGE": Repeat(reference=("requestId",), done_code=809, look_up=LookUpBy.REPEAT),
    "ISSUE-BADGE": Repeat(reference=("requestId",), done_code=809, look_up=LookUpBy.REPEAT),
    "CUSTOMER-STATUS-CHANGE": Repeat(look_up=LookUpBy.STATUS),
    "RETRO-TRANSACTION": Repeat(done_code=1627, look_up=LookUpBy.REPEAT),
}


def judge(request_type: str, answered: Reply | Failure, *, repeated: bool, doubtful: bool | None = None) -> Judgement:
    """What this answer means for a request of this type.

    `repeated`: an earlier attempt of ours was sent. `doubtful`: what became of that one is still open, so a
    refusal of this one proves nothing; by default so where the repeat is itself the look-up.
    """
    repeat = REPEATS[request_type]
    if isinstance(answered, Failure):
        verdict = Verdict.UNKNOWN if answered.sent else Verdict.RETRY
        return Judgement(verdict, None, answered.message)
    judged = _judge_reply(repeat, answered, repeated=repeated)
    if judged.verdict is Verdict.RETRY and not repeat.harmless:
        return replace(judged, verdict=Verdict.UNKNOWN, needs_person=True)
    if doubtful is None:
        doubtful = repeated and repeat.look_up is LookUpBy.REPEAT
    if judged.verdict is Verdict.FAILED and doubtful:
        told = f"{judged.message} (an earlier attempt may have been executed)"
        return replace(judged, verdict=Verdict.UNKNOWN, message=told)
    return judged


def _judge_reply(repeat: Repeat, reply: Reply, *, repeated: bool) -> Judgement:
    finding = find_code(read_body(reply.body), repeat.family)
    status = reply.status
    code = status if finding.code is None and status >= 300 else finding.code
    message = finding.message or f"HTTP {status}"
    if repeated and repeat.done_code is not None and code == repeat.done_code and status < 500:
        return Judgement(Verdict.ALREADY_DONE, code, message)
    if status in TRY_LATER or (status < 500 and code in TRY_LATER and finding.success is not True):
        return Judgement(Verdict.RETRY, code, message, retry_after_seconds(reply))
    if 400 <= status < 500 and status != 408:
        refused = status in (401, 403, 498) or code in UNAUTHORIZED
        return Judgement(Verdict.FAILED, code, message, unauthorized=refused)
    if not 200 <= status < 300:  # servers also send 408 to a connection that they no longer want, asked or not
        return Judgement(Verdict.UNKNOWN, code, message)
    return _judge_success(finding, message)


def _judge_success(finding: Finding, message: str) -> Judgement:
    """A 2xx answer: the body decides, and where it contradicts itself nobody knows."""
    if finding.partial:
        return Judgement(Verdict.UNKNOWN, finding.code, f"executed in part only: {message}", needs_person=True)
    match finding.success:
        case None:
            return Judgement(Verdict.UNKNOWN, finding.code, finding.message or "the answer cannot be read")
        case True if finding.code in _DONE:
            return Judgement(Verdict.SUCCEEDED, finding.code, message)
        case False if finding.code != 800:
            return Judgement(Verdict.FAILED, finding.code, message, unauthorized=finding.code in UNAUTHORIZED)
    return Judgement(Verdict.UNKNOWN, finding.code, f"the answer contradicts itself: {message}")


def retry_after_seconds(reply: Reply) -> float | None:
    """What Retry-After asks for, bounded. A date counts from the answer's own Date: clocks differ."""
    wanted = reply.header("Retry-After")
    if wanted is None:
        return None
    if wanted.isascii() and wanted.isdigit():
        return min(float(wanted[:12]), RETRY_AFTER_SECONDS_MAX)
    try:
        seconds = (parsedate_to_datetime(wanted) - parsedate_to_datetime(reply.header("Date") or "")).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)


def next_attempt_after(
    attempt_number: int, judgement: Judgement, *, jitter: float, first_seconds: float = FIRST_DELAY_SECONDS
) -> float:
    """Seconds to wait after attempt 1, 2, …: doubled each time, spread by `jitter` (0 to 1), at least Retry-After."""
    doubled = first_seconds * 2.0 ** min(max(attempt_number, 1) - 1, 30)
    delay = min(doubled, DELAY_SECONDS_MAX) * (0.5 + jitter / 2)
    return max(delay, judgement.retry_after_seconds or 0.0)
