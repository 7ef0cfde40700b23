"""A dead host is left alone for a while, so that what waits for it does not wait for its time-outs one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

FAILURES_MAX: Final = 5
LONGER_MAX: Final = 12  # times as long as at first


@dataclass(slots=True)
class Breaker:
    """Opens after some failures in a row; then one trial at a time tells whether the host is back.

    `first_seconds` is how long it stays open at first; each failed trial doubles it.
    """

    first_seconds: float
    failures: int = 0
    answers: bool = False  # as far as we know: its last call was answered
    open_until: float | None = None
    _open_seconds: float = 0.0
    _trial_until: float = field(default=0.0)

    def seconds_closed_to(self, now: float) -> float:
        """How long nobody may call; 0 when this caller may. A trial that never ends is forgotten after a while."""
        if self.open_until is None:
            return 0.0
        closed_until = max(self.open_until, self._trial_until)
        if now < closed_until:
            return closed_until - now
        self._trial_until = now + max(self._open_seconds, self.first_seconds)
        return 0.0

    @property
    def is_open(self) -> bool:
        """Whether the host is left alone, but for a trial now and then."""
        return self.open_until is not None

    def succeeded(self) -> None:
        """The host has answered."""
        self.failures = 0
        self.answers = True
        self.open_until = None
        self._open_seconds = self._trial_until = 0.0

    def failed(self, now: float) -> bool:
        """The host did not answer, or not as one that works; whether this has opened the breaker."""
        self.failures += 1
        self.answers = False
        if self.failures < FAILURES_MAX:
            return False
        was_open = self.open_until is not None
        longest = self.first_seconds * LONGER_MAX
        self._open_seconds = min(max(self._open_seconds * 2, self.first_seconds), longest)
        self.open_until = now + self._open_seconds
        self._trial_until = 0.0
        return not was_open
