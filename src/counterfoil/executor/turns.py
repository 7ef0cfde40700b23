"""Whose turn it is: who was not served for longest comes first, and before all others who has little to do."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

FIRST_MAX: Final = 4  # many who begin to wait at once do not wait for each other's whole share
SHARE_MIN: Final = 16  # so that the requests of an organisation share their transactions


@dataclass(slots=True)
class Turns:
    """When each organisation that still waits was served last; `together` is how many requests there may be in all."""

    together: int
    _served_at: dict[int, float] = field(default_factory=dict)

    def in_order(self, versions: Mapping[int, int]) -> dict[int, int]:
        """The organisations with work and their versions, in their order; who has none is forgotten."""
        self._served_at = {each: at for each, at in self._served_at.items() if each in versions}
        org_ids = random.sample(list(versions), len(versions))
        return {each: versions[each] for each in sorted(org_ids, key=lambda each: self._served_at.get(each, -inf))}

    def share(self, org_id: int, organisations: int) -> int:
        """How many of its requests may be taken in this turn."""
        return max(SHARE_MIN, self.together // organisations) if org_id in self._served_at else FIRST_MAX

    def served(self, org_id: int, at: float, *, is_all: bool) -> None:
        """It had its turn; `is_all`: and nothing more is due, so its next request will not wait behind the others'."""
        if is_all:
            self._served_at.pop(org_id, None)
        else:
            self._served_at[org_id] = at
