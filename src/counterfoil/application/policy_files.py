"""Reads the `policy` section of an organisation file. docs/policies.md shows what can be said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import tzinfo
from typing import Final

from counterfoil.application.yaml_fields import Fields
from counterfoil.domain.conditions import ALWAYS, DAY_MINUTES, DAYS, Condition
from counterfoil.domain.payload_types import TYPES
from counterfoil.domain.policies import AutoApproval, Cap, CapSubject, Level, Need, Policy, Rule
from counterfoil.domain.policy_files import Claim, Example, Mention, PolicyFile

POLICY: Final = ("approvals", "lifeHours", "commentAbove", "rules", "caps", "claims", "examples")
RULE: Final = ("name", "when", "autoApprove", "require", "lifeHours", "commentAbove")
WHEN: Final = ("type", "unit", "points", "makerGroup", "login", "time", "all", "any", "not")
POINTS: Final = ("above", "upTo")
TIME: Final = ("days", "from", "until")
NEED: Final = ("count", "group", "level", "otherStore", "step")
AUTO: Final = ("perRequest", "perMember", "perMaker", "perDay")
CAP: Final = ("name", "per", "points", "when", "require")
CLAIM: Final = ("above", "approvals")
EXAMPLE: Final = ("name", "request", "expect")
REQUEST: Final = ("type", "unit", "points", "maker", "login", "at")
EXPECT: Final = ("rule", "approvals", "autoApproved", "comment", "lifeHours", "refused")

APPROVALS_MAX: Final = 100
RULES_MAX: Final = 200
DEPTH_MAX: Final = 8
LIFE_HOURS_MAX: Final = 24 * 366
_NAME = re.compile(r"[\w .-]+")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00", re.ASCII)


def read_policy(top: Fields, zone: tzinfo) -> PolicyFile | None:
    """The section, or None where the file has none."""
    if "policy" not in top:
        return None
    fields = top.section("policy", POLICY)
    mentions: list[Mention] = []
    life = fields.number("lifeHours", high=LIFE_HOURS_MAX) if "lifeHours" in fields else None
    comment = fields.points("commentAbove", required=False)
    rules = tuple(_rule(each, mentions, life, comment) for each in fields.entries("rules", RULE))
    caps = tuple(_cap(each, mentions) for each in fields.entries("caps", CAP))
    approvals = fields.number("approvals", default=1, high=APPROVALS_MAX) or 1
    if rules and "approvals" in fields:
        fields.tell("approvals", "the rules say how many must approve: take this away")
    if "rules" in fields and not rules:
        fields.tell("rules", "must have at least one rule: without it nothing can be requested")
    if len(rules) > RULES_MAX:
        fields.tell("rules", f"must be at most {RULES_MAX}")
    _no_twins(fields, "rules", [rule.name for rule in rules])
    _no_twins(fields, "caps", [cap.name for cap in caps])
    if not rules and (life is not None or comment is not None or caps):
        rules = (Rule("approvals", ALWAYS, (Need(approvals),), None, life, comment),)
        approvals = 1
    return PolicyFile(
        Policy(0, approvals, rules, caps),
        tuple(
            Claim(each.path, each.points("above", may_be_0=True) or 0, each.number("approvals", high=APPROVALS_MAX))
            for each in fields.entries("claims", CLAIM)
        ),
        tuple(_example(each, zone) for each in fields.entries("examples", EXAMPLE)),
        tuple(mentions),
    )


def _no_twins(fields: Fields, name: str, names: list[str]) -> None:
    for number, each in enumerate(names):
        if each and each in names[:number]:
            fields.tell(f"{name}[{number}].name", f"{each} is also at {name}[{names.index(each)}]: use another name")


def _name(fields: Fields) -> str:
    name = fields.text("name", maximum=60)
    if name and not _NAME.fullmatch(name):
        fields.tell("name", "must have only letters, digits, blanks, dots, dashes and underscores in it")
    return name


def _rule(fields: Fields, mentions: list[Mention], life: int | None, comment: int | None) -> Rule:
    auto = _auto(fields) if "autoApprove" in fields else None
    needs = _needs(fields, mentions)
    if not needs and auto is None and "require" not in fields:
        fields.tell("require", "is missing: say who must approve")
    return Rule(
        name=_name(fields),
        when=_when(fields, "when", mentions, 1),
        needs=needs or (Need(),),
        auto=auto,
        life_hours=fields.number("lifeHours", high=LIFE_HOURS_MAX) if "lifeHours" in fields else life,
        comment_above=fields.points("commentAbove") if "commentAbove" in fields else comment,
    )


def _auto(fields: Fields) -> AutoApproval:
    caps = fields.section("autoApprove", AUTO)
    values = [caps.points(name) or 0 for name in AUTO]
    return AutoApproval(*values)


def _needs(fields: Fields, mentions: list[Mention]) -> tuple[Need, ...]:
    found: list[Need] = []
    for each in fields.entries("require", NEED):
        group = each.text("group", maximum=100, required=False) or None
        need = Need(
            count=each.number("count", default=1, high=APPROVALS_MAX) or 1,
            group=group,
            level=each.choice("level", tuple(Level)) if "level" in each else None,
            other_store=each.flag("otherStore", default=False),
            step=each.number("step", default=1, high=20) or 1,
        )
        if group:
            mentions.append(Mention(each.where("group"), group_id=group, count=need.count))
        found.append(need)
    if "require" in fields and not found:
        fields.tell("require", "must ask for at least one person: nothing is executed on nobody's word")
    if sum(need.count for need in found) > APPROVALS_MAX:
        fields.tell("require", f"asks for more than {APPROVALS_MAX} people")
    steps = sorted({need.step for need in found})
    if steps and steps != [*range(1, len(steps) + 1)]:
        fields.tell("require", f"has the steps {', '.join(map(str, steps))}: number them 1, 2, … without a gap")
    return tuple(found)


def _cap(fields: Fields, mentions: list[Mention]) -> Cap:
    per = fields.choice("per", tuple(CapSubject)) or CapSubject.REQUEST
    needs = _needs(fields, mentions)
    if needs and per is CapSubject.PAIR:
        fields.tell("require", "a cap of maker and checker is met when the checker decides: it can only refuse them")
    return Cap(_name(fields), per, fields.points("points") or 0, _when(fields, "when", mentions, 1), needs)


def _when(fields: Fields, name: str, mentions: list[Mention], depth: int) -> Condition:
    if name not in fields:
        return ALWAYS
    when = fields.section(name, WHEN)
    return _condition(when, mentions, depth)


def _condition(when: Fields, mentions: list[Mention], depth: int) -> Condition:
    if depth > DEPTH_MAX:
        when.tell("", f"is nested deeper than {DEPTH_MAX} levels")
        return ALWAYS
    band = when.section("points", POINTS)
    above, up_to = band.points("above", required=False), band.points("upTo", required=False)
    if above is not None and up_to is not None and above >= up_to:
        band.tell("upTo", "must be more than `above`, or no amount is in the band")
    units = tuple(_unit(when, where, text, mentions) for where, text in when.one_or_many("unit"))
    groups = tuple(when.one_or_many("makerGroup"))
    mentions.extend(Mention(when.where(where), group_id=text) for where, text in groups)
    time = _time(when)
    return Condition(
        types=tuple(_type(when, where, text) for where, text in when.one_or_many("type")),
        units=units,
        above=above,
        up_to=up_to,
        maker_groups=tuple(text for _, text in groups),
        logins=tuple(text for _, text in when.one_or_many("login")),
        days=time[0],
        from_minute=time[1],
        until_minute=time[2],
        all_of=_parts(when, "all", mentions, depth),
        any_of=_parts(when, "any", mentions, depth),
        none_of=(_when(when, "not", mentions, depth + 1),) if "not" in when else (),
    )


def _parts(when: Fields, name: str, mentions: list[Mention], depth: int) -> tuple[Condition, ...]:
    parts = tuple(_condition(each, mentions, depth + 1) for each in when.entries(name, WHEN))
    if name in when and not parts:
        when.tell(name, "must have at least one condition")
    return parts


def _type(when: Fields, where: str, text: str) -> str:
    if text not in TYPES:
        when.tell(where, f"must be one of {', '.join(TYPES)}")
    return text


def _unit(when: Fields, where: str, text: str, mentions: list[Mention]) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        when.tell(where, "must be the id of a unit")
        return 0
    mentions.append(Mention(when.where(where), unit_id=int(text)))
    return int(text)


def _time(when: Fields) -> tuple[tuple[int, ...], int | None, int | None]:
    if "time" not in when:
        return (), None, None
    time = when.section("time", TIME)
    chosen = time.words("days", DAYS.__contains__, lambda _word: f"must be one of {', '.join(DAYS)}")
    minutes = {name: _minute(time, name) for name in ("from", "until") if name in time}
    if not chosen and not minutes:
        when.tell("time", "must have days, from or until")
    if minutes.get("from", 0) == minutes.get("until"):
        time.tell("until", "must differ from `from`: leave both out for whole days")
    return tuple(sorted(DAYS.index(day) for day in chosen)), minutes.get("from"), minutes.get("until")


def _minute(time: Fields, name: str) -> int:
    text = time.text(name)
    if not _CLOCK.fullmatch(text) or (name == "from" and text == "24:00"):
        time.tell(name, 'must be a time such as "22:00", in quotes')
        return 0 if name == "from" else DAY_MINUTES
    return int(text[:2]) * 60 + int(text[3:])


def _example(fields: Fields, zone: tzinfo) -> Example:
    request, expect = fields.section("request", REQUEST), fields.section("expect", EXPECT)
    found = Example(
        path=fields.path,
        name=fields.text("name"),
        request_type=request.choice("type", tuple(TYPES)) or "",
        unit_id=request.number("unit"),
        points=request.points("points", required=False) or 0,
        maker=request.text("maker", maximum=100, required=False),
        login=request.text("login", required=False),
        at=request.moment("at", zone),
        rule=expect.text("rule", required=False) or None,
        approvals=expect.number("approvals", high=APPROVALS_MAX) if "approvals" in expect else None,
        is_automatic=expect.flag("autoApproved", default=False) if "autoApproved" in expect else None,
        needs_comment=expect.flag("comment", default=False) if "comment" in expect else None,
        life_hours=expect.number("lifeHours") if "lifeHours" in expect else None,
        is_refused=expect.flag("refused", default=False) if "refused" in expect else None,
    )
    if not any(name in expect for name in EXPECT):
        fields.tell("expect", f"must say at least one of {', '.join(EXPECT)}")
    return found


def fields_of_the_section() -> Iterator[str]:
    """Every field that can stand in the section."""
    for known in (POLICY, RULE, WHEN, POINTS, TIME, NEED, AUTO, CAP, CLAIM, EXAMPLE, REQUEST, EXPECT):
        yield from known
