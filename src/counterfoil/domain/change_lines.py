"""What applying an organisation file changes, as lines for a person to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from counterfoil.domain.member_entries import MemberChange
from counterfoil.domain.organisation_changes import Change, Difference
from counterfoil.domain.organisation_files import IDENTIFIER_FIELDS
from counterfoil.domain.payloads import points_text
from counterfoil.domain.record_facts import PASSWORD, facts, text_of

MEMBERS_SHOWN_MAX: Final = 20
_HIDDEN: Final = frozenset({PASSWORD, "secret", "keys"})


class Line(Struct, frozen=True):
    """One line of a printed difference."""

    sign: str
    text: str


def describe(difference: Difference, members_shown_max: int = MEMBERS_SHOWN_MAX) -> Iterator[Line]:
    """The difference as lines to read; no password is in them, nor anything made of one.

    More members than that are counted, not listed.
    """
    for change in difference.records:
        yield from record_lines(change)
    yield from _member_lines(difference.members, members_shown_max)


def record_lines(change: Change[Any]) -> Iterator[Line]:
    """The lines of one change: one for what comes or goes, one for each field that differs."""
    head = f"{change.what} {change.key}"
    if change.before is None or change.after is None:
        record = change.after or change.before
        told = ", ".join(_fact(label, value) for label, value in facts(record) if _is_news(value))
        yield Line(change.sign, f"{head}: {told}" if told else head)
        return
    for (label, before), (_, after) in zip(facts(change.before), facts(change.after), strict=True):
        if before == after:
            continue
        if label in _HIDDEN:
            yield Line("~", f"{head} {label}: changed; what was issued for the old one ends")
        else:
            yield Line("~", f"{head} {label}: {text_of(before)} → {text_of(after)}")


def _is_news(value: object) -> bool:
    return not (value is None or value is True or value == ())


def _fact(label: str, value: object) -> str:
    return f"{label} set" if label in _HIDDEN else f"{label} {text_of(value)}"


def _member_lines(members: tuple[MemberChange, ...], shown_max: int) -> Iterator[Line]:
    if len(members) <= shown_max:
        for member in members:
            yield from _member(member)
        return
    new = sum(member.is_new for member in members)
    identified = sum(not member.is_new and member.before != member.after for member in members)
    lots = sum(len(member.lots) for member in members)
    points = points_text(sum(member.points for member in members))
    if new:
        yield Line("+", f"{new:,} members")
    if identified:
        yield Line("~", f"{identified:,} members: identifiers")
    if lots:
        yield Line("+", f"{lots:,} lots with {points} points")


def _member(member: MemberChange) -> Iterator[Line]:
    head = f"member {member.member_id}"
    names = [(IDENTIFIER_FIELDS[kind], member.before.get(kind), value) for kind, value in member.after.items()]
    if member.is_new:
        yield Line("+", f"{head}: " + ", ".join(f"{name} {value}" for name, _, value in names))
    else:
        for name, before, after in names:
            if before != after:
                yield Line("~", f"{head} {name}: {before or 'none'} → {after}")
    for lot in member.lots:
        end = f"until {lot.expires_at.isoformat()}" if lot.expires_at else "for ever"
        yield Line("+", f"{head} lot {lot.reference}: {points_text(lot.points)} points {end}")
