"""The counters of one batch: locked before, folded request by request, and what is to be written afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

from msgspec import Struct

from counterfoil.domain.rulings import CapUse, Tally


class TallyAsked(Struct, frozen=True):
    """A counter that a new request may be counted in; of a member by an identifier, whose kind is `kind`."""

    request_id: UUID
    cap: str
    per: str
    subject: str
    kind: str


@dataclass(slots=True)
class CapBook:
    """Counters, the uses that requests have of them already, and what each command may be counted in."""

    _points: dict[CapUse, int] = field(default_factory=dict)
    _before: dict[CapUse, int] = field(default_factory=dict)
    _uses: dict[UUID, list[tuple[CapUse, int]]] = field(default_factory=lambda: defaultdict(list))
    _offered: dict[tuple[UUID, str], dict[str, CapUse]] = field(default_factory=lambda: defaultdict(dict))
    new_uses: list[tuple[UUID, CapUse, int]] = field(default_factory=list)

    def counted(self, cap: str, subject: str, day: date, points: int) -> None:
        """A counter as it was read under its lock."""
        self._points[CapUse(cap, subject, day)] = self._before[CapUse(cap, subject, day)] = points

    def used(self, request_id: UUID, cap: str, subject: str, day: date, points: int) -> None:
        """A request is counted there already."""
        self._uses[request_id].append((CapUse(cap, subject, day), points))

    def offer(self, request_id: UUID, cap: str, checker: str, subject: str, day: date) -> None:
        """A command on this request (by this checker) may be counted there."""
        self._offered[request_id, checker][cap] = CapUse(cap, subject, day)

    def tallies(self, request_id: UUID, checker: str = "") -> dict[str, Tally]:
        """The counters that a command may be counted in, as the batch has left them so far."""
        return {
            cap: Tally(use.subject, use.day, self._points[use])
            for cap, use in self._offered.get((request_id, checker), {}).items()
        }

    def take(self, request_id: UUID, uses: Sequence[CapUse], points: int) -> None:
        """Count a request."""
        for use in uses:
            self._points[use] += points
            self._uses[request_id].append((use, points))
            self.new_uses.append((request_id, use, points))

    def release(self, request_id: UUID) -> None:
        """A request has ended without effect: it counts nowhere any more."""
        for use, points in self._uses.pop(request_id, ()):
            self._points[use] -= points

    def moved(self) -> Iterator[tuple[CapUse, int]]:
        """What is to be added to each counter."""
        for use, points in self._points.items():
            if points != self._before[use]:
                yield use, points - self._before[use]
