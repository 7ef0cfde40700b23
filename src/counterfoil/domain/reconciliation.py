"""Comparing what was approved here with what was redeemed there, reference by reference.

Two lists of one host and one period go in; what does not agree comes out. Both lists may reach beyond the
period, so that a redemption on its edge finds its partner; what lies outside of it is never reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class Kind(StrEnum):
    """What can be wrong with a pair."""

    ONLY_THERE = "only-there"
    ONLY_HERE = "only-here"
    AMOUNT_DIFFERS = "amount-differs"
    MEMBER_DIFFERS = "member-differs"
    OPEN_HERE = "open-here"
    TWICE_THERE = "twice-there"


MEANING: Mapping[Kind, str] = {
    Kind.ONLY_THERE: "redeemed there without an approved request here",
    Kind.ONLY_HERE: "succeeded here without a redemption there",
    Kind.AMOUNT_DIFFERS: "the points differ",
    Kind.MEMBER_DIFFERS: "the members differ",
    Kind.OPEN_HERE: "redeemed there, and not settled here yet",
    Kind.TWICE_THERE: "one reference was redeemed more than once there",
}


class Approved(Struct, frozen=True):
    """An approved redemption request. Points in thousandths; `reference` is the one that was sent.

    `member` has the identifiers that are known of the member, by kind. `settled` is false as long as the
    outcome is open.
    """

    request_id: str
    reference: str
    redemption_id: str | None
    points: int
    member: Mapping[str, str]
    at: datetime
    settled: bool


class Redeemed(Struct, frozen=True):
    """A redemption as the host has it. `reference` and `redemption_id` are empty where it tells none."""

    reference: str
    redemption_id: str
    points: int
    member: Mapping[str, str]
    at: datetime
    place: str  # where the reader finds it: a line of the export, or the redemption's id


class Finding(Struct, frozen=True):
    """One thing that does not agree; one of the two sides may be missing."""

    kind: Kind
    here: Approved | None
    there: Redeemed | None


class Reconciliation(Struct, frozen=True):
    """What was compared and found. `unlike` counts pairs whose members have no kind of identifier in common."""

    pairs: int
    unlike: int
    findings: Sequence[Finding]


def reconcile(
    ours: Iterable[Approved], theirs: Iterable[Redeemed], *, since: datetime, until: datetime
) -> Reconciliation:
    """Pair by the redemption's id where both sides have it, else by reference; report since <= time < until."""
    redeemed = sorted(theirs, key=lambda each: each.at)
    by_id: dict[str, list[int]] = defaultdict(list)
    by_reference: dict[str, list[int]] = defaultdict(list)
    for number, each in enumerate(redeemed):
        if each.redemption_id:
            by_id[each.redemption_id].append(number)
        if each.reference:
            by_reference[each.reference].append(number)
    taken: set[int] = set()
    findings: list[Finding] = []
    pairs = unlike = 0
    for here in sorted(ours, key=lambda each: each.at):
        found = by_id.get(here.redemption_id or "") or by_reference.get(here.reference) or ()
        partners = [redeemed[number] for number in found if number not in taken]
        taken.update(found)
        is_due = any(since <= at < until for at in (here.at, *(each.at for each in partners)))
        pairs += bool(partners)
        if partners and is_due:
            unlike += _same_member(here.member, partners[0].member) is None
            findings.extend(_pair(here, partners))
        elif is_due and here.settled:
            findings.append(Finding(Kind.ONLY_HERE, here, None))
    findings.extend(
        Finding(Kind.ONLY_THERE, None, each)
        for number, each in enumerate(redeemed)
        if number not in taken and since <= each.at < until
    )
    return Reconciliation(pairs, unlike, findings)


def _pair(here: Approved, partners: Sequence[Redeemed]) -> Iterator[Finding]:
    """What does not agree within a pair; further partners are one too many."""
    there = partners[0]
    if not here.settled:
        yield Finding(Kind.OPEN_HERE, here, there)
    if here.points != there.points:
        yield Finding(Kind.AMOUNT_DIFFERS, here, there)
    if _same_member(here.member, there.member) is False:
        yield Finding(Kind.MEMBER_DIFFERS, here, there)
    for each in partners[1:]:
        yield Finding(Kind.TWICE_THERE, here, each)


def _same_member(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool | None:
    """Whether an identifier of the same kind agrees; None when there is none of the same kind."""
    common = [kind for kind, value in ours.items() if value and theirs.get(kind)]
    return any(ours[kind] == theirs[kind] for kind in common) if common else None
