"""What applying an organisation file changes, as lines for a person to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final

from counterfoil.domain.access import OrgUnit
from counterfoil.domain.member_entries import MemberChange
from counterfoil.domain.organisation_changes import Change, Difference
from counterfoil.domain.organisation_files import IDENTIFIER_FIELDS, OrganisationSettings
from counterfoil.domain.organisations import Credential, Group, Host, Person, Programme, ReasonCode, User
from counterfoil.domain.payloads import points_text
from counterfoil.domain.policies import Policy
from counterfoil.domain.policy_texts import describe_cap, describe_rule

MEMBERS_SHOWN_MAX: Final = 20
PASSWORD: Final = "password"  # noqa: S105 - the name of a field


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a printed difference."""

    sign: str
    text: str


def describe(difference: Difference) -> Iterator[Line]:
    """The difference as lines to read; no password is in them, nor anything made of one."""
    for change in difference.records:
        yield from record_lines(change)
    yield from _member_lines(difference.members)


def record_lines(change: Change[Any]) -> Iterator[Line]:
    """The lines of one change: one for what comes or goes, one for each field that differs."""
    head = f"{change.what} {change.key}"
    if change.before is None or change.after is None:
        record = change.after or change.before
        facts = ", ".join(_fact(label, value) for label, value in _facts(record) if _is_news(value))
        yield Line(change.sign, f"{head}: {facts}" if facts else head)
        return
    for (label, before), (_, after) in zip(_facts(change.before), _facts(change.after), strict=True):
        if before == after:
            continue
        if label == PASSWORD:
            yield Line("~", f"{head} password: changed; what was issued for the old one ends")
        else:
            yield Line("~", f"{head} {label}: {_text(before)} → {_text(after)}")


def _is_news(value: object) -> bool:
    return not (value is None or value is True or value == ())


def _fact(label: str, value: object) -> str:
    return "password set" if label == PASSWORD else f"{label} {_text(value)}"


def _text(value: object) -> str:
    match value:
        case None | ():
            return "none"
        case bool():
            return "true" if value else "false"
        case tuple():
            return " ".join(str(each) for each in value)
        case datetime():
            return value.isoformat()
        case Decimal():
            return format(value.normalize(), "f")
        case _:
            return str(value)


def _facts(record: object) -> list[tuple[str, object]]:
    """What a record says, under the names that the file uses."""
    return [(label, read(record)) for label, read in _FACTS.get(type(record), ())]


def _points(points: int | None) -> str | None:
    return None if points is None else points_text(points)


def _address(host: Host) -> str:
    is_default = host.port == (443 if host.scheme == "https" else 80)
    return f"{host.scheme}://{host.pattern}" + ("" if is_default else f":{host.port}")


def _fingerprint(text: str | None) -> str | None:
    """Enough to see that it is another one, and not what it is."""
    return None if text is None else f"set ({sha256(text.encode()).hexdigest()[:8]})"


_FACTS: Final[Mapping[type, Sequence[tuple[str, Callable[[Any], object]]]]] = {
    OrganisationSettings: (
        ("name", attrgetter("name")),
        ("timeZone", attrgetter("time_zone")),
        ("wireTimeZone", attrgetter("wire_time_zone")),
        ("countryCode", attrgetter("country_code")),
        ("profile", attrgetter("profile")),
        ("control", attrgetter("control")),
        ("echoCredentials", attrgetter("echo_credentials")),
        ("readScope", attrgetter("read_scope")),
        ("incidentQuorum", attrgetter("incident_quorum")),
    ),
    OrgUnit: (
        ("name", attrgetter("name")),
        ("code", attrgetter("code")),
        ("parent zone", attrgetter("zone_parent_id")),
        ("parent concept", attrgetter("concept_parent_id")),
        ("store", attrgetter("store_id")),
        ("active", attrgetter("active")),
    ),
    Person: (
        ("name", attrgetter("name")),
        ("memberIdentifiers", lambda person: tuple(f"{kind} {value}" for kind, value in person.member_identifiers)),
        ("active", attrgetter("active")),
    ),
    Group: (("name", attrgetter("name")), ("people", attrgetter("people"))),
    User: (
        ("userName", attrgetter("user_name")),
        ("person", attrgetter("person_id")),
        (PASSWORD, attrgetter("password_hash")),
        ("active", attrgetter("active")),
    ),
    Credential: (
        ("id", attrgetter("user_id")),
        ("person", attrgetter("person_id")),
        ("till", attrgetter("unit_id")),
        ("rights", attrgetter("rights")),
        (PASSWORD, attrgetter("secret_hash")),
        ("active", attrgetter("active")),
    ),
    Host: (
        ("url", _address),
        ("target", attrgetter("target")),
        ("baseUrl", attrgetter("base_url")),
        ("plainHttp", lambda host: host.plain_http or None),
        ("private", lambda host: host.private or None),
        ("linkLocal", lambda host: host.link_local or None),
        ("caBundle", lambda host: _fingerprint(host.ca_pem)),
        ("authorization", lambda host: _fingerprint(host.credential_mac)),
        ("attemptSeconds", lambda host: host.attempt_seconds if host.is_external else None),
        ("overallSeconds", lambda host: host.overall_seconds if host.is_external else None),
        ("absentAfterSeconds", attrgetter("absent_after_seconds")),
        ("lookUp", lambda host: host.look_up if host.is_external else None),
        ("concurrency", lambda host: host.concurrency if host.is_external else None),
    ),
    Policy: (
        ("approvals", lambda policy: None if policy.rules else policy.approvals_required),
        ("rules", lambda policy: tuple(describe_rule(rule) + ";" for rule in policy.rules)),
        ("caps", lambda policy: tuple(describe_cap(cap) + ";" for cap in policy.caps)),
    ),
    ReasonCode: (("name", attrgetter("name")),),
    Programme: (
        ("name", attrgetter("name")),
        ("currencyPerPoint", attrgetter("currency_per_point")),
        ("holdDays", attrgetter("hold_days")),
        ("releaseGraceHours", attrgetter("release_grace_hours")),
        ("goodwillExpiryDays", attrgetter("goodwill_expiry_days")),
        ("goodwillPointsMax", lambda programme: _points(programme.goodwill_points_max)),
    ),
}


def _member_lines(members: tuple[MemberChange, ...]) -> Iterator[Line]:
    if len(members) <= MEMBERS_SHOWN_MAX:
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
