"""What a search asks for, and by which index it is read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct

from counterfoil.domain.requests import FINAL, State

# How many requests are looked at for one page, round after round, before it is given as short as it is.
DEPTHS: Final = (200, 2000, 10_000)


class Way(StrEnum):
    """The index that a search goes by; the other filters judge what it finds."""

    REFERENCE = "reference"
    MEMBER = "member"
    CHECKER = "checker"
    MAKER = "maker"
    OPEN = "open"
    START = "start"


class Search(Struct, frozen=True):
    """Closed filters that must all fit; None: not set. Bounds of the start are [from, until)."""

    started_from: datetime
    started_until: datetime
    states: tuple[State, ...] = tuple(State)
    request_type: str | None = None
    reference: str | None = None
    member_id: int | None = None
    identifier: tuple[str, str] | None = None
    maker: str | None = None
    checker: str | None = None
    units: Sequence[int] | None = None

    @property
    def way(self) -> Way:
        """The most selective of the filters that are set."""
        if self.reference is not None:
            return Way.REFERENCE
        if self.member_id is not None or self.identifier is not None:
            return Way.MEMBER
        if self.checker is not None:
            return Way.CHECKER
        if self.maker is not None:
            return Way.MAKER
        return Way.START if FINAL.intersection(self.states) else Way.OPEN
