"""A policy in words: the rows of the matrix that an auditor reads, and the lines of a printed difference."""

from __future__ import annotations

from collections.abc import Iterator

from counterfoil.domain.conditions import DAYS, Condition
from counterfoil.domain.payloads import points_text
from counterfoil.domain.policies import Cap, Rule, describe_needs


def describe_condition(condition: Condition) -> str:
    """A condition in words; "always" where nothing is asked."""
    return " and ".join(_parts(condition)) or "always"


def _parts(condition: Condition) -> Iterator[str]:
    if condition.types:
        yield "type " + "/".join(condition.types)
    if condition.units:
        yield "in unit " + "/".join(map(str, condition.units))
    if condition.above is not None:
        yield f"more than {points_text(condition.above)} points"
    if condition.up_to is not None:
        yield f"at most {points_text(condition.up_to)} points"
    if condition.maker_groups:
        yield "maker in group " + "/".join(condition.maker_groups)
    if condition.logins:
        yield "through " + "/".join(condition.logins)
    if condition.days:
        yield "on " + "/".join(DAYS[day] for day in condition.days)
    if condition.from_minute is not None or condition.until_minute is not None:
        yield f"from {_clock(condition.from_minute or 0)} until {_clock(condition.until_minute or 1440)}"
    yield from (f"({describe_condition(part)})" for part in condition.all_of)
    if condition.any_of:
        yield "(" + " or ".join(describe_condition(part) for part in condition.any_of) + ")"
    yield from (f"not ({describe_condition(part)})" for part in condition.none_of)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def describe_rule(rule: Rule) -> str:
    """One row: when, what is asked, for how long."""
    told = f"{rule.name}: {describe_condition(rule.when)} → {describe_outcome(rule)}"
    if rule.comment_above is not None:
        told += f", a comment above {points_text(rule.comment_above)} points"
    if rule.life_hours is not None:
        told += f", within {rule.life_hours} h"
    return told


def describe_outcome(rule: Rule) -> str:
    """What a rule asks for."""
    if rule.auto is None:
        return describe_needs(rule.needs)
    auto = rule.auto
    return (
        f"automatic up to {points_text(auto.per_request)} points each, a day {points_text(auto.per_member)} a member, "
        f"{points_text(auto.per_maker)} a maker, {points_text(auto.per_day)} in all; else {describe_needs(rule.needs)}"
    )


def describe_cap(cap: Cap) -> str:
    """One cap: how much of what, and what happens beyond it."""
    beyond = f"beyond it also {describe_needs(cap.needs)}" if cap.needs else "beyond it refused"
    whose = "each request" if cap.per == "request" else f"a {cap.per} and day" if cap.per != "day" else "a day in all"
    return f"{cap.name}: {points_text(cap.points)} points for {whose}, {describe_condition(cap.when)}; {beyond}"
