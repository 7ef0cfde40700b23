"""The members of an organisation file: whether they fit to those that are there, and what changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from counterfoil.domain.organisation_files import (
    IDENTIFIER_FIELDS,
    Award,
    Current,
    MemberEntry,
    OrganisationFile,
    Problem,
)


class MemberChange(Struct, frozen=True):
    """A member that is new or differs: identifiers as they were and will be, and the lots to award."""

    member_id: int
    is_new: bool
    before: Mapping[str, str]
    after: Mapping[str, str]
    lots: Sequence[Award]

    @property
    def points(self) -> int:
        """The points awarded, in thousandths."""
        return sum(lot.points for lot in self.lots)


def problems(file: OrganisationFile, current: Current, now: datetime) -> Iterator[Problem]:
    """Everything about the members that cannot be applied."""
    first: dict[int, str] = {}
    claims: dict[tuple[str, str], str] = {}
    listed = {entry.member_id: entry for entry in file.members.values()}
    for path, entry in file.members.items():
        if entry.member_id and first.setdefault(entry.member_id, path) != path:
            yield Problem(f"{path}.id", f"member {entry.member_id} is also at {first[entry.member_id]}: merge the two")
        for kind, value in entry.identifiers.items():
            if not value:
                continue
            where = f"{path}.{IDENTIFIER_FIELDS[kind]}"
            if claims.setdefault((kind, value), path) != path:
                yield Problem(where, f"{value} is also at {claims[kind, value]}: an identifier has one member")
            owner = current.owners.get((kind, value), entry.member_id)
            # Another member of the file may be giving it up in the same breath.
            if owner != entry.member_id and kind not in (listed[owner].identifiers if owner in listed else ()):
                yield Problem(where, f"{value} belongs to member {owner}: an identifier has one member")
        known = current.members.get(entry.member_id)
        if known is None and not entry.identifiers:
            yield Problem(path, f"a new member needs one of {', '.join(IDENTIFIER_FIELDS.values())}")
        yield from _lots(path, entry, known, now)


def _lots(path: str, entry: MemberEntry, known: MemberEntry | None, now: datetime) -> Iterator[Problem]:
    awarded = {lot.reference: lot for lot in known.lots} if known else {}
    seen: dict[str, str] = {}
    for index, lot in enumerate(entry.lots):
        where = f"{path}.lots[{index}]"
        if lot.reference and seen.setdefault(lot.reference, where) != where:
            yield Problem(f"{where}.reference", f"{lot.reference} is also at {seen[lot.reference]}: use another")
        if lot.awarded_at and lot.expires_at and lot.expires_at <= lot.awarded_at:
            yield Problem(f"{where}.expiresAt", "must be after awardedAt; the points end when it begins")
        if lot.awarded_at and lot.awarded_at > now:
            yield Problem(f"{where}.awardedAt", "lies in the future: points count from the moment they are applied")
        there = awarded.get(lot.reference)
        if there is None or not lot.points or lot.awarded_at is None:
            continue
        for name, was, wanted in (
            ("points", there.points, lot.points),
            ("awardedAt", there.awarded_at, lot.awarded_at),
            ("expiresAt", there.expires_at, lot.expires_at),
        ):
            if was != wanted:
                yield Problem(
                    f"{where}.{name}",
                    f"the lot {lot.reference} was awarded with another value, and lots never change: "
                    "put it back, or award a lot with a reference of its own",
                )


def changes(file: OrganisationFile, current: Current) -> Iterator[MemberChange]:
    """What has to be written, in the order of member ids: the order in which members are locked."""
    for entry in sorted(file.members.values(), key=lambda each: each.member_id):
        known = current.members.get(entry.member_id)
        before = known.identifiers if known else {}
        awarded = {lot.reference for lot in known.lots} if known else set()
        lots = [lot for lot in entry.lots if lot.reference not in awarded]
        after = {**before, **entry.identifiers}
        if known is None or after != before or lots:
            yield MemberChange(entry.member_id, known is None, before, after, lots)
