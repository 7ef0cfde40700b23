"""How the pending requests that a person may decide are looked for: unit by unit, or all of them from the top."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from counterfoil.domain.reach import NOWHERE, Reach
from counterfoil.domain.requests import Request

# Where a page goes on: behind this time and id. In the inbox the time is urgent_at, in a search started_at.
Key = tuple[datetime, UUID]
START: Final[Key] = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))
ROUNDS_MAX: Final = 6
WALKED_MAX: Final = 2000
_UNITS_FEW: Final = 32


class Found(Struct, frozen=True):
    """Candidates in order; complete up to `end`, or to the last there is where `end` is None."""

    organisation_version: int
    now: datetime
    requests: Sequence[Request]
    end: Key | None


class Look(Struct, frozen=True):
    """One look into the database. `depth` is per unit when unit by unit, else of all pending requests."""

    by_unit: bool
    depth: int


def plan_look(reach: Reach, units_in_all: int, wanted: int, round_number: int) -> Look:
    """Choose what reads fewer rows for `wanted` requests; later rounds, after a poor harvest, dig deeper.

    Unit by unit costs a probe and a few rows for each unit; from the top costs one row for each pending request,
    of which a share of units / units_in_all is ours.
    """
    units = len(reach.units)
    from_the_top = reach.everywhere > NOWHERE or (
        units > _UNITS_FEW and units * units * 4 > wanted * units_in_all and round_number < 2
    )
    if from_the_top:
        share = 1.0 if reach.everywhere > NOWHERE else units / max(units_in_all, units)
        return Look(
            by_unit=False, depth=min(math.ceil(2 * wanted / share), WALKED_MAX) if not round_number else WALKED_MAX
        )
    if round_number or not units:
        return Look(by_unit=True, depth=wanted)
    # If the requests are spread evenly, no unit is likely to have more than this of the first ones.
    mean = wanted / units
    return Look(by_unit=True, depth=min(wanted, math.ceil(mean + 4 * math.sqrt(mean) + 2)))
