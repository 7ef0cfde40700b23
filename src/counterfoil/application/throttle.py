"""Slows down whoever guesses: a delay per login and source that doubles with each failure, and one per source.

An attempt counts as a failure from its start until it turns out well, so that guesses sent all at once count as
well. It never locks anybody out: another source is another entry, the delays have a ceiling, and what was
verified a moment ago is let through before anybody asks here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from counterfoil.domain.refusals import Throttled

FREE_FAILURES = 5
FORGET_SECONDS = 900.0
# Many tills may share one address; one that guesses with another login each time is slowed down all the same.
SOURCE_FREE_FAILURES = 100
SOURCE_FORGIVES_SECONDS = 2.0
FIRST_DELAY_SECONDS = 1.0
DELAY_SECONDS_MAX = 60.0
ENTRIES_MAX = 50_000

Key = TypeVar("Key")


@dataclass(slots=True)
class _Failures:
    count: float
    last_at: float
    open_at: float


class _Counts(Generic[Key]):
    """Failures by key: all are forgotten after a pause, or one each `forgives_seconds`."""

    def __init__(self, free: int, entries_max: int, forgives_seconds: float) -> None:
        self._free = free
        self._entries_max = entries_max
        self._forgives_seconds = forgives_seconds
        self._failures: OrderedDict[Key, _Failures] = OrderedDict()

    def wait_seconds(self, key: Key, now: float) -> int:
        """How long to wait, in whole seconds; 0 for an attempt that may be made now."""
        failures = self._failures.get(key)
        return int(failures.open_at - now) + 1 if failures is not None and now < failures.open_at else 0

    def add(self, key: Key, now: float) -> None:
        failures = self._failures.pop(key, None)
        if failures is None or now - failures.last_at > FORGET_SECONDS:
            failures = _Failures(0, now, now)
        forgiven = (now - failures.last_at) / self._forgives_seconds
        failures.count = max(failures.count - forgiven, 0) + 1
        failures.last_at = now
        if failures.count >= self._free:
            # The exponent is bounded too: 2.0 ** 2000 overflows.
            doubled = FIRST_DELAY_SECONDS * 2.0 ** min(failures.count - self._free, 16)
            failures.open_at = now + min(doubled, DELAY_SECONDS_MAX)
        self._failures[key] = failures
        if len(self._failures) > self._entries_max:
            self._failures.popitem(last=False)

    def take_back(self, key: Key) -> None:
        failures = self._failures.get(key)
        if failures is not None:
            failures.count = max(failures.count - 1, 0)
            failures.open_at = failures.last_at  # as it was: the attempt was made because nobody had to wait

    def forget(self, key: Key) -> None:
        self._failures.pop(key, None)


class Throttle:
    """The failures that this process has seen lately. `now` is any clock in seconds that does not jump."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._logins = _Counts[tuple[str, str]](FREE_FAILURES, entries_max, float("inf"))
        self._sources = _Counts[str](SOURCE_FREE_FAILURES, entries_max, SOURCE_FORGIVES_SECONDS)

    def admit(self, login: str, source: str, now: float) -> None:
        """Raises Throttled while this login from this source, or the source, has to wait."""
        for seconds, what in (
            (self._logins.wait_seconds((login, source), now), "with this login from your address"),
            (self._sources.wait_seconds(source, now), "from your address"),
        ):
            if seconds:
                raise Throttled(
                    f"too many failed attempts {what}: wait {seconds} s",
                    retry_after_seconds=seconds,
                )

    def check(self, login: str, source: str, now: float) -> None:
        """Admit and count an attempt."""
        self.admit(login, source, now)
        self._logins.add((login, source), now)
        self._sources.add(source, now)

    def succeeded(self, login: str, source: str) -> None:
        """Forget the failures with this login; of the source's, only the attempt itself."""
        self._logins.forget((login, source))
        self._sources.take_back(source)

    def take_back(self, login: str, source: str) -> None:
        """An attempt that was never judged is no failure."""
        self._logins.take_back((login, source))
        self._sources.take_back(source)
