"""The difference between an organisation file and the organisation, as records to write and lines to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from counterfoil.domain import member_entries
from counterfoil.domain.access import Grant, OrgUnit, UnitKind
from counterfoil.domain.member_entries import MemberChange
from counterfoil.domain.organisation_files import (
    IDENTIFIER_FIELDS,
    Current,
    OrganisationFile,
    OrganisationSettings,
    grant_key,
)
from counterfoil.domain.organisations import Credential, Host, Person, Policy, Programme, User
from counterfoil.domain.payloads import points_text

R = TypeVar("R")
MEMBERS_SHOWN_MAX: Final = 20
PASSWORD: Final = "password"  # noqa: S105 - the name of a field


@dataclass(frozen=True, slots=True)
class Change(Generic[R]):
    """One record that comes (`before` None), goes (`after` None) or differs."""

    what: str
    key: str
    before: R | None
    after: R | None

    @property
    def sign(self) -> str:
        """Return + for what comes, - for what goes, ~ for what differs."""
        return "+" if self.before is None else "-" if self.after is None else "~"


@dataclass(frozen=True, slots=True)
class Difference:
    """All that applying a file changes. `version` is the organisation's afterwards."""

    version: int
    settings: tuple[Change[OrganisationSettings], ...]
    units: tuple[Change[OrgUnit], ...]
    people: tuple[Change[Person], ...]
    users: tuple[Change[User], ...]
    credentials: tuple[Change[Credential], ...]
    grants: tuple[Change[Grant], ...]
    hosts: tuple[Change[Host], ...]
    policy: tuple[Change[Policy], ...]
    programme: tuple[Change[Programme], ...]
    members: tuple[MemberChange, ...]

    @property
    def records(self) -> tuple[Change[Any], ...]:
        """Every change but those of members, in the order in which a person reads them."""
        return (
            *self.settings,
            *self.units,
            *self.people,
            *self.users,
            *self.credentials,
            *self.grants,
            *self.hosts,
            *self.policy,
            *self.programme,
        )

    def __bool__(self) -> bool:
        """Whether there is anything to change."""
        return bool(self.records or self.members)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a printed difference."""

    sign: str
    text: str


def difference(
    file: OrganisationFile,
    current: Current,
    new_hashes: Mapping[str, str],
    sealed: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> Difference:
    """Compare a file that has no problems with what is there.

    `new_hashes` has the hash of each password that is new or another than the stored one, by place; `sealed` the
    own credential of each host that has one, with the digest to compare it by.
    """
    version = current.version + 1
    units = {str(unit.unit_id): unit for unit in file.units.values()}
    people = {person.person_id: person for person in file.people.values()}
    known_policy = current.policy
    # Without a policy nothing can be requested; the contract's own is one approval.
    approvals = file.approvals or (known_policy.approvals_required if known_policy else 1)
    policy = Policy(known_policy.revision if known_policy else 1, approvals)
    if known_policy and known_policy != policy:
        policy = replace(policy, revision=known_policy.revision + 1)
    return Difference(
        version=version,
        settings=_compare("organisation", {str(file.settings.org_id): (current.settings, file.settings)}),
        units=tuple(
            change
            for kind in UnitKind
            for change in _compare(
                kind,
                {key: (current.units.get(int(key)), unit) for key, unit in units.items() if unit.kind is kind},
            )
        ),
        people=_compare("person", {key: (current.people.get(key), person) for key, person in people.items()}),
        users=_compare("user", _users(file, current, new_hashes)),
        credentials=_compare("credential", _credentials(file, current, new_hashes)),
        grants=_grants(file, current),
        hosts=_hosts(file, current, version, sealed),
        policy=_compare("policy", {f"revision {policy.revision}": (known_policy, policy)}),
        programme=_compare(
            "programme",
            {str(file.programme.programme_id): (current.programme, file.programme)} if file.programme else {},
        ),
        members=tuple(member_entries.changes(file, current)),
    )


def _compare(what: str, pairs: Mapping[str, tuple[R | None, R]]) -> tuple[Change[R], ...]:
    return tuple(Change(what, key, before, after) for key, (before, after) in pairs.items() if before != after)


def _users(
    file: OrganisationFile, current: Current, new_hashes: Mapping[str, str]
) -> dict[str, tuple[User | None, User]]:
    pairs: dict[str, tuple[User | None, User]] = {}
    for path, user in file.users.items():
        known = current.users.get(user.user_id)
        hashed = new_hashes.get(path) or (known.password_hash if known else None)
        # A token of before must not come back to life with the user.
        ended = known is not None and known.active and not user.active
        epoch = known.epoch + (path in new_hashes or ended) if known else 1
        pairs[str(user.user_id)] = (known, replace(user, password_hash=hashed, epoch=epoch))
    return pairs


def _credentials(
    file: OrganisationFile, current: Current, new_hashes: Mapping[str, str]
) -> dict[str, tuple[Credential | None, Credential]]:
    pairs: dict[str, tuple[Credential | None, Credential]] = {}
    for path, credential in file.credentials.items():
        known = current.credentials.get(credential.login)
        hashed = new_hashes.get(path) or (known.secret_hash if known else "")
        epoch = known.epoch + (path in new_hashes) if known else 1
        pairs[credential.login] = (known, replace(credential, secret_hash=hashed, epoch=epoch))
    return pairs


def _grants(file: OrganisationFile, current: Current) -> tuple[Change[Grant], ...]:
    """Grants have no name of their own, so one that differs is another one."""
    if file.grants is None:
        return ()
    known = {grant_key(grant): grant for grant in current.grants}
    wanted = {grant_key(grant): grant for grant in file.grants.values()}
    gone = [Change("grant", _grant_text(grant), grant, None) for key, grant in known.items() if key not in wanted]
    new = [Change("grant", _grant_text(grant), None, grant) for key, grant in wanted.items() if key not in known]
    return (*gone, *new)


def _hosts(
    file: OrganisationFile, current: Current, version: int, sealed: Mapping[str, tuple[str, str]]
) -> tuple[Change[Host], ...]:
    if file.hosts is None:
        return ()
    wanted = {}
    for path, host in file.hosts.items():
        known = current.hosts.get(host.host_id)
        own = sealed.get(path)
        if path in file.host_credentials and known is not None and (own is None or own[1] == known.credential_mac):
            # The same credential, or none was typed: what is sealed already stays.
            own = (known.credential_sealed or "", known.credential_mac or "") if known.credential_mac else None
        wanted[host.host_id] = replace(host, credential_sealed=own[0], credential_mac=own[1]) if own else host
    changes = [Change("host", key, host, None) for key, host in current.hosts.items() if key not in wanted]
    for key, host in wanted.items():
        known = current.hosts.get(key)
        # What a request was approved for is an entry and its revision. The organisation's version as revision
        # never comes back, not even when an entry is removed and added again.
        revised = replace(host, revision=version)
        if known is None or replace(known, revision=version) != revised:
            changes.append(Change("host", key, known, revised))
    return tuple(changes)


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
    Person: (("name", attrgetter("name")), ("active", attrgetter("active"))),
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
    Policy: (("approvals", attrgetter("approvals_required")),),
    Programme: (
        ("name", attrgetter("name")),
        ("currencyPerPoint", attrgetter("currency_per_point")),
        ("holdDays", attrgetter("hold_days")),
        ("releaseGraceHours", attrgetter("release_grace_hours")),
    ),
}


def _grant_text(grant: Grant) -> str:
    parts = [grant.person_id, grant.access_right.value, f"at {grant.unit_id or 'the whole organisation'}"]
    parts.append(f"for {grant.request_type or 'all types'}")
    if grant.points_max:
        parts.append(f"up to {points_text(grant.points_max)} points")
    if grant.valid_from:
        parts.append(f"from {grant.valid_from.isoformat()}")
    if grant.valid_until:
        parts.append(f"until {grant.valid_until.isoformat()}")
    return " ".join(parts)


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
