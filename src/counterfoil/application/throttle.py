"""Slows down whoever guesses: a delay per login and source that doubles with each failure.

It never locks anybody out: another source is another entry, the delay has a ceiling, and what was verified a
moment ago is let through before anybody asks here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from counterfoil.domain.refusals import Throttled

FREE_FAILURES = 5
FIRST_DELAY_SECONDS = 1.0
DELAY_SECONDS_MAX = 60.0
FORGET_SECONDS = 900.0
ENTRIES_MAX = 50_000


@dataclass(slots=True)
class _Failures:
    count: int
    last_at: float
    open_at: float


class Throttle:
    """The failures that this process has seen lately. `now` is any clock in seconds that does not jump."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def check(self, login: str, source: str, now: float) -> None:
        """Raise Throttled while this login from this source has to wait."""
        failures = self._failures.get((login, source))
        if failures is not None and now < failures.open_at:
            seconds = int(failures.open_at - now) + 1
            raise Throttled(
                f"too many failed attempts with this login from your address: wait {seconds} s",
                retry_after_seconds=seconds,
            )

    def failed(self, login: str, source: str, now: float) -> None:
        """Count a failure."""
        key = (login, source)
        failures = self._failures.pop(key, None)
        if failures is None or now - failures.last_at > FORGET_SECONDS:
            failures = _Failures(0, now, now)
        failures.count += 1
        failures.last_at = now
        if failures.count >= FREE_FAILURES:
            # The exponent is bounded too: 2.0 ** 2000 overflows.
            doubled = FIRST_DELAY_SECONDS * 2.0 ** min(failures.count - FREE_FAILURES, 16)
            failures.open_at = now + min(doubled, DELAY_SECONDS_MAX)
        self._failures[key] = failures
        if len(self._failures) > self._entries_max:
            self._failures.popitem(last=False)

    def succeeded(self, login: str, source: str) -> None:
        """Forget the failures."""
        self._failures.pop((login, source), None)
