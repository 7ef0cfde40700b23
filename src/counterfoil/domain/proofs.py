"""Checks a policy for all inputs: the conditions are closed, so the inputs split into regions, exactly.

A region is a product of what each question can be answered with: types, places, points, groups of the maker, logins,
minutes of the week. Asking a rule's condition splits a region into parts of which each has one answer. Every part is
not empty, so that each one is an example.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain.access import OrgUnit, units_above
from counterfoil.domain.conditions import DAY_MINUTES, DAYS, WEEK_MINUTES, Condition, Facts, parts_of, windows
from counterfoil.domain.payload_types import TYPES, WITH_POINTS
from counterfoil.domain.payloads import POINTS_MAX, points_text
from counterfoil.domain.policies import Cap, CapSubject, Policy, Rule

REGIONS_MAX = 100_000
OTHER_LOGIN = "another login"


class TooManyRegions(Exception):
    """The conditions split the inputs into too many parts to look at each."""


class Region(Struct, frozen=True):
    """Some inputs. `groups` are those that were asked for; a place is what a unit has above it that is named."""

    types: frozenset[str]
    places: frozenset[frozenset[int]]
    low: int
    high: int
    groups: tuple[tuple[str, bool], ...]
    logins: frozenset[str]
    minutes: tuple[tuple[int, int], ...]
    named: frozenset[int]  # the units that the policy names, the same in all regions


Parts = Iterator[tuple[Region, bool]]


def split(condition: Condition, region: Region) -> Parts:
    """The parts of a region in each of which the condition has one answer."""
    questions = [*_questions(condition)]
    waiting = [(region, 0)]
    while waiting:
        part, number = waiting.pop()
        if number == len(questions):
            yield part, True
            continue
        for answered, truth in questions[number](part):
            if truth:
                waiting.append((answered, number + 1))
            else:
                yield answered, False


def _questions(condition: Condition) -> Iterator[_Question]:
    if condition.types:
        yield _Question("types", frozenset(condition.types))
    if condition.above is not None:
        yield _Question("points", condition.above, negated=True)
    if condition.up_to is not None:
        yield _Question("points", condition.up_to)
    if condition.units:
        yield _Question("places", frozenset(condition.units))
    if condition.maker_groups:
        yield _Question("any", tuple(_Question("group", group) for group in condition.maker_groups))
    if condition.logins:
        yield _Question("logins", frozenset(condition.logins))
    if condition.has_time:
        yield _Question("minutes", windows(condition))
    yield from (_Question("condition", part) for part in condition.all_of)
    if condition.any_of:
        yield _Question("any", tuple(_Question("condition", part) for part in condition.any_of))
    if condition.none_of:
        yield _Question("any", tuple(_Question("condition", part) for part in condition.none_of), negated=True)


class _Question(Struct, frozen=True):
    """One question of a condition."""

    about: str
    value: object
    negated: bool = False

    def __call__(self, region: Region) -> Parts:
        """Split by the answer."""
        for part, truth in self._asked(region):
            yield part, truth != self.negated

    def _asked(self, region: Region) -> Parts:  # noqa: C901, PLR0912 - one case for each kind of question
        match self.about, self.value:
            case "types", frozenset() as wanted:
                yield from _both(region, "types", region.types & wanted, region.types - wanted)
            case "logins", frozenset() as wanted:
                yield from _both(region, "logins", region.logins & wanted, region.logins - wanted)
            case "places", frozenset() as wanted:
                inside = frozenset(place for place in region.places if not place.isdisjoint(wanted))
                yield from _both(region, "places", inside, region.places - inside)
            case "minutes", tuple() as wanted:
                inside_minutes = _common(region.minutes, wanted)
                yield from _both(region, "minutes", inside_minutes, _without(region.minutes, wanted))
            case "points", int() as bound:
                if region.low <= bound:
                    yield replace(region, high=min(region.high, bound)), True
                if region.high > bound:
                    yield replace(region, low=max(region.low, bound + 1)), False
            case "group", str() as group:
                known = dict(region.groups)
                for truth in (True, False):
                    if known.get(group, truth) is truth:
                        yield replace(region, groups=tuple(sorted({**known, group: truth}.items()))), truth
            case "condition", Condition() as condition:
                yield from split(condition, region)
            case _, tuple() as questions:
                yield from _any(questions, region)
            case _:
                raise AssertionError(f"no question is about {self.about} (this is a bug)")


def _both(region: Region, name: str, inside: object, outside: object) -> Parts:
    if inside:
        yield replace(region, **{name: inside}), True
    if outside:
        yield replace(region, **{name: outside}), False


def _any(questions: Sequence[_Question], region: Region) -> Parts:
    waiting = [(region, 0)]
    while waiting:
        part, number = waiting.pop()
        if number == len(questions):
            yield part, False
            continue
        for answered, truth in questions[number](part):
            if truth:
                yield answered, True
            else:
                waiting.append((answered, number + 1))


def _common(minutes: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted({(max(a, c), min(b, d)) for a, b in minutes for c, d in wanted if max(a, c) < min(b, d)}))


def _without(minutes: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    left = [*minutes]
    for c, d in wanted:
        left = [piece for a, b in left for piece in ((a, min(b, c)), (max(a, d), b)) if piece[0] < piece[1]]
    return tuple(sorted(left))


def everything(policy: Policy, units: Mapping[int, OrgUnit]) -> Region:
    """All inputs there are: open units, known types, any amount, login and time."""
    asked = [*(rule.when for rule in policy.ladder), *(cap.when for cap in policy.caps)]
    conditions = [part for when in asked for part in parts_of(when)]
    named = frozenset(unit for condition in conditions for unit in condition.units)
    places = frozenset(units_above(units, unit.unit_id) & named for unit in units.values() if unit.active)
    logins = frozenset(login for condition in conditions for login in condition.logins)
    return Region(
        frozenset(TYPES), places or frozenset({frozenset()}), 0, POINTS_MAX, (),
        logins | {OTHER_LOGIN}, ((0, WEEK_MINUTES),), named,
    )  # fmt: skip


def apart(region: Region) -> Iterator[Region]:
    """The same inputs in two regions: types with points, which are above 0, and types without, which count as 0."""
    if region.types & WITH_POINTS:
        yield replace(region, types=region.types & WITH_POINTS, low=max(region.low, 1))
    if region.types - WITH_POINTS:
        yield replace(region, types=region.types - WITH_POINTS, high=0)


class Leaf(Struct, frozen=True):
    """A region with its rule (None: no rule applies) and the fewest approvals with which anything in it executes.

    `approvals` None: a cap refuses everything in it. Caps of a day only ever ask for more.
    """

    region: Region
    rule: Rule | None
    approvals: int | None


def leaves(policy: Policy, units: Mapping[int, OrgUnit]) -> Iterator[Leaf]:
    """Every region with the one rule that applies to all of it."""
    ladder = policy.ladder
    waiting = [(region, 0) for region in apart(everything(policy, units))]
    count = 0
    while waiting:
        region, number = waiting.pop()
        count += 1
        if count > REGIONS_MAX:
            raise TooManyRegions
        if number == len(ladder):
            yield Leaf(region, None, 0)
            continue
        rule = ladder[number]
        for part, applies in split(rule.when, region):
            if applies:
                yield from _outcomes(policy, rule, part)
            else:
                waiting.append((part, number + 1))


def _outcomes(policy: Policy, rule: Rule, region: Region) -> Iterator[Leaf]:
    """What becomes of the requests of a rule, by the caps that look at each request alone."""
    needed = sum(need.count for need in rule.needs)
    for part, extra in _capped([cap for cap in policy.caps if cap.per is CapSubject.REQUEST], region):
        if extra is None:
            yield Leaf(part, rule, None)
        elif rule.auto is None or extra or not part.types & WITH_POINTS:
            yield Leaf(part, rule, needed + extra)
        else:
            for piece, is_small in _Question("points", rule.auto.per_request)(part):
                yield Leaf(piece, rule, 0 if is_small else needed)


def _capped(caps: Sequence[Cap], region: Region) -> Iterator[tuple[Region, int | None]]:
    """How many more must approve because of caps; None for what is refused."""
    if not caps:
        yield region, 0
        return
    first = caps[0]
    over = replace(first.when, all_of=(*first.when.all_of, Condition(above=first.points)))
    for part, is_over in split(over, region):
        if is_over and not first.needs:
            yield part, None
            continue
        for piece, extra in _capped(caps[1:], part):
            own = sum(need.count for need in first.needs) if is_over else 0
            yield piece, None if extra is None else extra + own


@dataclass(slots=True)
class Findings:
    """What was found about a policy. `least`: for each band of points, above and up to, the fewest approvals."""

    regions: int = 0
    gaps: list[Region] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    executed: list[Leaf] = field(default_factory=list)
    least: list[tuple[int, int, int]] = field(default_factory=list)
    automatic_max: int = 0


def examine(policy: Policy, units: Mapping[int, OrgUnit]) -> Findings:
    """Look at every region once."""
    found = Findings()
    for leaf in leaves(policy, units):
        found.regions += 1
        if leaf.rule is None:
            found.gaps.append(leaf.region)
            continue
        found.reached.add(leaf.rule.name)
        if leaf.approvals is None:
            continue
        found.executed.append(leaf)
        if leaf.approvals == 0:
            found.automatic_max = max(found.automatic_max, leaf.region.high)
    found.least = list(_least(found.executed))
    return found


def _least(executed: Sequence[Leaf]) -> Iterator[tuple[int, int, int]]:
    """The fewest approvals of each band of points, neighbours with the same number together."""
    bounds = sorted({leaf.region.low for leaf in executed} | {leaf.region.high + 1 for leaf in executed})
    fewest: list[int | None] = [None] * len(bounds)
    for leaf in executed:
        for number in range(bisect_left(bounds, leaf.region.low), bisect_left(bounds, leaf.region.high + 1)):
            known, own = fewest[number], leaf.approvals or 0
            fewest[number] = own if known is None else min(known, own)
    last: tuple[int, int, int] | None = None
    for number, value in enumerate(fewest[:-1]):
        if value is None:
            continue
        above, up_to = bounds[number] - 1, bounds[number + 1] - 1
        if last is not None and (last[1], last[2]) == (above, value):
            last = (last[0], up_to, value)
            continue
        if last is not None:
            yield last
        last = (above, up_to, value)
    if last is not None:
        yield last


def breach(found: Findings, above: int, approvals: int) -> tuple[Region, Rule] | None:
    """Something above so many points that is executed with fewer approvals, or None. Above 0 is everything there is."""
    for leaf in found.executed:
        region = leaf.region
        if (leaf.approvals or 0) < approvals and leaf.rule is not None and (region.high > above or not above):
            return replace(region, low=min(max(region.low, above + 1), region.high)), leaf.rule
    return None


def overlapping(policy: Policy) -> Iterator[tuple[int, int, int]]:
    """Two rules that differ in their bands only, which overlap without one holding the other; and an amount in both."""
    for second, later in enumerate(policy.rules):
        for first, earlier in enumerate(policy.rules[:second]):
            bands = [(each.when.above or 0, each.when.up_to or POINTS_MAX) for each in (earlier, later)]
            (a, b), (c, d) = bands
            same = replace(earlier.when, above=None, up_to=None) == replace(later.when, above=None, up_to=None)
            nested = (a <= c and d <= b) or (c <= a and b <= d)
            if same and not nested and max(a, c) < min(b, d):
                yield first, second, min(b, d)


_LOWEST_FIRST: Final = ("till", "store", "zone", "concept")


def example(region: Region, units: Mapping[int, OrgUnit]) -> tuple[int | None, Facts]:
    """One input of a region, and the unit that it is made at."""
    place = min(region.places, key=sorted)
    unit_id = min(
        (each.unit_id for each in units.values()
         if each.active and units_above(units, each.unit_id) & region.named == place),
        key=lambda each: (_LOWEST_FIRST.index(units[each].kind.value), each), default=None,
    )  # fmt: skip
    return unit_id, Facts(
        min(region.types, key=tuple(TYPES).index), place, region.low,
        frozenset(group for group, held in region.groups if held),
        min(region.logins - {OTHER_LOGIN}, default=OTHER_LOGIN), region.minutes[0][0],
    )  # fmt: skip


def point(region: Region, facts: Facts) -> Region:
    """The region of one input only."""
    return replace(
        region, types=frozenset({facts.request_type}), places=frozenset({facts.places}), low=facts.points,
        high=facts.points, logins=frozenset({facts.login}), minutes=((facts.minute, facts.minute + 1),),
    )  # fmt: skip


def describe_example(region: Region, units: Mapping[int, OrgUnit]) -> str:
    """The smallest input of a region, in words."""
    unit_id, facts = example(region, units)
    told = [facts.request_type, f"{points_text(facts.points)} points"]
    if unit_id is not None:
        told.append(f"unit {unit_id}")
    told += [f"maker {'in' if held else 'not in'} group {group}" for group, held in region.groups]
    if OTHER_LOGIN not in region.logins or len(region.logins) > 1:
        told.append(f"login {facts.login}")
    if region.minutes != ((0, WEEK_MINUTES),):
        day, minute = divmod(facts.minute, DAY_MINUTES)
        told.append(f"{DAYS[day]} {minute // 60:02}:{minute % 60:02}")
    return ", ".join(told)
