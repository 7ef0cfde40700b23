"""The closed table of conditions: what a rule of a policy may ask about a request, and nothing else.

A condition is data, so that it can be stored, printed as a row of a matrix, and split into regions for a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from typing import Final

from msgspec import Struct

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES: Final = 24 * 60
WEEK_MINUTES: Final = 7 * DAY_MINUTES


class Condition(Struct, frozen=True):
    """True where everything that is set is true; with nothing set, always.

    Points in thousandths, `above` exclusive and `up_to` inclusive; a request without points counts as 0. `days`
    and minutes of the day are in the organisation's time zone; until at or before from ends on the next day.
    """

    types: tuple[str, ...] = ()
    units: tuple[int, ...] = ()
    above: int | None = None
    up_to: int | None = None
    maker_groups: tuple[str, ...] = ()
    logins: tuple[str, ...] = ()
    days: tuple[int, ...] = ()
    from_minute: int | None = None
    until_minute: int | None = None
    all_of: tuple[Condition, ...] = ()
    any_of: tuple[Condition, ...] = ()
    none_of: tuple[Condition, ...] = ()

    @property
    def has_time(self) -> bool:
        """Whether the condition itself, not its parts, asks for a time."""
        return bool(self.days) or self.from_minute is not None or self.until_minute is not None


class Facts(Struct, frozen=True):
    """What conditions are asked about. `places` are the request's unit and all above it."""

    request_type: str
    places: frozenset[int]
    points: int
    maker_groups: frozenset[str]
    login: str
    minute: int = 0


ALWAYS: Final = Condition()
Test = Callable[[Facts], bool]


def minute_of_week(now: datetime, zone: tzinfo) -> int:
    """Minutes since Monday, midnight, where the organisation is."""
    local = now.astimezone(zone)
    return local.weekday() * DAY_MINUTES + local.hour * 60 + local.minute


def parts_of(condition: Condition) -> Iterator[Condition]:
    """The condition and everything inside it."""
    yield condition
    for part in (*condition.all_of, *condition.any_of, *condition.none_of):
        yield from parts_of(part)


def asks_for_time(condition: Condition) -> bool:
    """Whether the time decides anything here."""
    return any(part.has_time for part in parts_of(condition))


def windows(condition: Condition) -> tuple[tuple[int, int], ...]:
    """The minutes of the week, from and until (exclusive), in which the condition itself holds."""
    since, until = condition.from_minute or 0, condition.until_minute
    length = ((DAY_MINUTES if until is None else until) - since - 1) % DAY_MINUTES + 1
    found: list[tuple[int, int]] = []
    for day in condition.days or range(7):
        start = day * DAY_MINUTES + since
        end = start + length
        found.append((start, min(end, WEEK_MINUTES)))
        if end > WEEK_MINUTES:
            found.append((0, end - WEEK_MINUTES))
    return tuple(found)


def compiled(condition: Condition) -> Test:
    """The condition as one call, made once per snapshot."""
    tests = list(_tests(condition))
    if not tests:
        return lambda _facts: True
    if len(tests) == 1:
        return tests[0]
    return lambda facts: all(test(facts) for test in tests)


def _tests(condition: Condition) -> Iterator[Test]:
    types, units = frozenset(condition.types), frozenset(condition.units)
    groups, logins = frozenset(condition.maker_groups), frozenset(condition.logins)
    above, up_to = condition.above, condition.up_to
    if types:
        yield lambda facts: facts.request_type in types
    if above is not None:
        yield lambda facts: facts.points > above
    if up_to is not None:
        yield lambda facts: facts.points <= up_to
    if units:
        yield lambda facts: not units.isdisjoint(facts.places)
    if groups:
        yield lambda facts: not groups.isdisjoint(facts.maker_groups)
    if logins:
        yield lambda facts: facts.login in logins
    if condition.has_time:
        open_at = windows(condition)
        yield lambda facts: any(start <= facts.minute < end for start, end in open_at)
    yield from (compiled(part) for part in condition.all_of)
    if condition.any_of:
        some = [compiled(part) for part in condition.any_of]
        yield lambda facts: any(test(facts) for test in some)
    if condition.none_of:
        none = [compiled(part) for part in condition.none_of]
        yield lambda facts: not any(test(facts) for test in none)
