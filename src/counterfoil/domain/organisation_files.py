"""What an organisation file says, what the organisation is now, and whether the two fit together.

Each record has the place where it was written as its key, a dotted path such as `units.tills[0]`, so that
a problem can name its field. A field that could not be read has a neutral value (0, "", None) and a problem
of its own already; the checks here say nothing more about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from counterfoil.domain.access import Grant, OrgUnit, Right, UnitKind
from counterfoil.domain.callers import AccessGroup, TrustedIssuer
from counterfoil.domain.organisations import (
    Credential,
    Group,
    Host,
    Organisation,
    Person,
    Policy,
    Programme,
    ReasonCode,
    User,
)
from counterfoil.domain.payload_types import WITH_POINTS
from counterfoil.domain.policy_files import PolicyFile

R = TypeVar("R")
K = TypeVar("K")
IDENTIFIER_FIELDS: Mapping[str, str] = {
    "mobile": "mobile",
    "email": "email",
    "external_id": "externalId",
    "card_number": "cardNumber",
}


class Problem(Struct, frozen=True):
    """Something in a file that cannot be applied; `path` is the field, `message` says what to do."""

    path: str
    message: str


class OrganisationSettings(Struct, frozen=True):
    """The organisation's own row."""

    org_id: int
    name: str
    time_zone: str
    wire_time_zone: str
    country_code: str
    profile: str
    control: str
    echo_credentials: str
    read_scope: str = "organisation"
    incident_quorum: int = 1


@dataclass(frozen=True, slots=True)
class Password:
    """Where a password comes from: `value`, `env`, `file` or `prompt`. `is_md5`: it is in the md5 form.

    `word` is what the file calls it: a client's secret and an issuer's keys come in the same ways.
    """

    source: str
    value: str = field(repr=False)
    is_md5: bool = False
    word: str = "password"


class Award(Struct, frozen=True):
    """A lot as the file gives it. Points in thousandths."""

    reference: str
    points: int
    awarded_at: datetime | None
    expires_at: datetime | None = None


class MemberEntry(Struct, frozen=True):
    """A member as the file gives it: identifiers by kind in their stored form; absent ones stay."""

    member_id: int
    identifiers: Mapping[str, str]
    lots: Sequence[Award] = ()


class OrganisationFile(Struct, frozen=True):
    """A whole file. Complete lists are None where the file has no such list: then they stay.

    `credentials` has the OAuth clients, too; `passwords` their secrets and the keys of issuers.
    """

    settings: OrganisationSettings
    units: Mapping[str, OrgUnit] = msgspec.field(default_factory=dict)
    people: Mapping[str, Person] = msgspec.field(default_factory=dict)
    users: Mapping[str, User] = msgspec.field(default_factory=dict)
    credentials: Mapping[str, Credential] = msgspec.field(default_factory=dict)
    passwords: Mapping[str, Password] = msgspec.field(default_factory=dict)
    groups: Mapping[str, Group] | None = None
    grants: Mapping[str, Grant] | None = None
    access_groups: Mapping[str, AccessGroup] | None = None
    issuers: Mapping[str, TrustedIssuer] | None = None
    hosts: Mapping[str, Host] | None = None
    policy: PolicyFile | None = None
    programme: Programme | None = None
    reason_codes: Mapping[str, ReasonCode] | None = None
    members: Mapping[str, MemberEntry] = msgspec.field(default_factory=dict)


class Current(Struct, frozen=True):
    """The organisation as the database has it; of the members only those that the file names.

    `owners` tells who has an identifier that the file gives to somebody, `login_owners` the organisation of
    each login in the file, `organisation` is the snapshot that the records are from.
    """

    settings: OrganisationSettings | None = None
    version: int = 0
    units: Mapping[int, OrgUnit] = msgspec.field(default_factory=dict)
    people: Mapping[str, Person] = msgspec.field(default_factory=dict)
    users: Mapping[int, User] = msgspec.field(default_factory=dict)
    credentials: Mapping[str, Credential] = msgspec.field(default_factory=dict)
    groups: Mapping[str, Group] = msgspec.field(default_factory=dict)
    grants: Sequence[Grant] = ()
    access_groups: Mapping[str, AccessGroup] = msgspec.field(default_factory=dict)
    issuers: Mapping[str, TrustedIssuer] = msgspec.field(default_factory=dict)
    hosts: Mapping[str, Host] = msgspec.field(default_factory=dict)
    policy: Policy | None = None
    programme: Programme | None = None
    reason_codes: Sequence[ReasonCode] = ()
    has_members: bool = False
    login_owners: Mapping[str, int] = msgspec.field(default_factory=dict)
    members: Mapping[int, MemberEntry] = msgspec.field(default_factory=dict)
    owners: Mapping[tuple[str, str], int] = msgspec.field(default_factory=dict)
    organisation: Organisation | None = None


def problems(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    """Everything about units, people, credentials, grants, hosts and programme that cannot be applied."""
    yield from _settings(file, current)
    yield from _units(file, current)
    yield from _people(file, current)
    yield from _credentials(file, current)
    yield from _groups(file, current)
    yield from _grants(file, current)
    yield from _hosts(file)
    codes = {path: each for path, each in (file.reason_codes or {}).items() if each.code}
    yield from twice(codes, lambda each: f"{each.code} for {each.request_type or 'all types'}", "reason code", "code")
    known = current.programme
    if file.programme and file.programme.programme_id and known:
        if file.programme.programme_id != known.programme_id:
            yield Problem(
                "programme.id",
                f"the organisation's programme is {known.programme_id}; a second one is not there yet",
            )
    elif file.programme is None and known is None:
        yield Problem("programme", "a new organisation needs a loyalty programme: add `programme: {id: 1, name: …}`")


def _settings(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    if current.settings and current.settings.control == "dual" and file.settings.control != "dual":
        yield Problem("organisation.control", "dual control is never given up again: write `control: dual`")
    known = current.settings.country_code if current.settings else ""
    if current.has_members and file.settings.country_code not in ("", known):
        yield Problem("organisation.countryCode", f"the members' mobile numbers were stored with {known}: keep it")


def twice(entries: Mapping[str, R], key: Callable[[R], K | None], what: str, field_name: str) -> Iterator[Problem]:
    """One problem for each entry whose key another entry before it has."""
    first: dict[K, str] = {}
    for path, entry in entries.items():
        value = key(entry)
        if value is None or value in ("", 0):
            continue
        if value in first:
            yield Problem(f"{path}.{field_name}", f"{what} {value} is also at {first[value]}: keep one of them")
        else:
            first[value] = path


def _units(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    yield from twice(file.units, lambda unit: unit.unit_id, "unit", "id")
    tills = {path: unit for path, unit in file.units.items() if unit.kind is UnitKind.TILL}
    yield from twice(tills, lambda till: till.code, "till code", "code")
    listed = {unit.unit_id: unit for unit in file.units.values() if unit.unit_id}
    merged = {**current.units, **listed}
    codes = {unit.code: unit.unit_id for unit in current.units.values() if unit.kind is UnitKind.TILL}
    for path, unit in file.units.items():
        known = current.units.get(unit.unit_id)
        if known and known.kind is not unit.kind:
            yield Problem(f"{path}.id", f"unit {unit.unit_id} is a {known.kind}, which it stays: use another id")
        owner = codes.get(unit.code, unit.unit_id) if unit.kind is UnitKind.TILL else unit.unit_id
        if owner != unit.unit_id and owner not in listed:
            yield Problem(f"{path}.code", f"till {owner} has the code {unit.code}: use another")
        for name, parent_id, kind in _parents(unit):
            parent = merged.get(parent_id or 0)
            if parent_id and parent is None:
                yield Problem(f"{path}.{name}", f"there is no {kind} {parent_id}: list it under units.{kind}s")
            elif parent and parent.kind is not kind:
                yield Problem(f"{path}.{name}", f"unit {parent_id} is a {parent.kind}, not a {kind}")
    yield from _cycles(file, merged)
    yield from _closures(file, merged)


def _closures(file: OrganisationFile, merged: Mapping[int, OrgUnit]) -> Iterator[Problem]:
    """What is below a closed unit is closed, too; requests that were made there can still be decided."""
    paths = {unit.unit_id: path for path, unit in file.units.items()}
    open_below: dict[int, list[int]] = {}
    for unit in merged.values():
        for name, parent_id, _ in _parents(unit):
            parent = merged.get(parent_id or 0)
            if not unit.active or parent is None or parent.active:
                continue
            if parent.unit_id in paths:
                open_below.setdefault(parent.unit_id, []).append(unit.unit_id)
            elif unit.unit_id in paths:
                told = f"{parent.kind} {parent.unit_id} is closed: open it, or take another {name}"
                yield Problem(f"{paths[unit.unit_id]}.{name}", told)
    for parent_id, below in open_below.items():
        told = ", ".join(str(each) for each in sorted(below)[:5]) + (" …" if len(below) > 5 else "")
        yield Problem(
            f"{paths[parent_id]}.active",
            f"{merged[parent_id].kind} {parent_id} cannot be closed while {told} below it is open: close or move that",
        )


def _parents(unit: OrgUnit) -> Iterator[tuple[str, int | None, UnitKind]]:
    """The field, id and kind of each parent that a unit may have."""
    match unit.kind:
        case UnitKind.ZONE:
            yield "parent", unit.zone_parent_id, UnitKind.ZONE
        case UnitKind.CONCEPT:
            yield "parent", unit.concept_parent_id, UnitKind.CONCEPT
        case UnitKind.STORE:
            yield "zone", unit.zone_parent_id, UnitKind.ZONE
            yield "concept", unit.concept_parent_id, UnitKind.CONCEPT
        case UnitKind.TILL:
            yield "store", unit.store_id, UnitKind.STORE


def _cycles(file: OrganisationFile, merged: Mapping[int, OrgUnit]) -> Iterator[Problem]:
    told: set[int] = set()
    for path, unit in file.units.items():
        if unit.kind not in (UnitKind.ZONE, UnitKind.CONCEPT) or unit.unit_id in (*told, 0):
            continue
        way = [unit.unit_id]
        seen = set(way)
        above = _same_kind_parent(unit)
        while above in merged and above not in seen:
            way.append(above)
            seen.add(above)
            above = _same_kind_parent(merged[above])
        if above == unit.unit_id:
            told.update(way)
            circle = " → ".join(str(each) for each in [*way, above])
            yield Problem(f"{path}.parent", f"a {unit.kind} cannot be above itself ({circle}): take one parent away")


def _same_kind_parent(unit: OrgUnit) -> int:
    return (unit.zone_parent_id if unit.kind is UnitKind.ZONE else unit.concept_parent_id) or 0


def _people(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    yield from twice(file.people, lambda person: person.person_id, "person", "staffId")
    # Sign-in ignores case, so two names that differ in case only are one name.
    yield from twice(file.users, lambda user: user.user_name.lower(), "user name", "userName")
    listed = {user.user_id for user in file.users.values()}
    names = {user.user_name.lower(): user.user_id for user in current.users.values() if user.user_id not in listed}
    for path, user in file.users.items():
        owner = names.get(user.user_name.lower())
        if owner is not None:
            yield Problem(f"{path}.userName", f"user {owner} has this name: use another, or rename that user too")
    callers: dict[str, User | Credential] = {**file.users, **file.credentials}
    yield from twice(callers, lambda caller: caller.user_id, "id", "id")
    credential_ids = {each.user_id: each.login for each in current.credentials.values()}
    for path, user in file.users.items():
        if user.user_id in credential_ids:
            login = credential_ids[user.user_id]
            yield Problem(f"{path}.id", f"credential {login} has the id {user.user_id}: use another")


def _credentials(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    tills = {path: each for path, each in file.credentials.items() if not each.is_client}
    yield from twice(tills, lambda credential: credential.login, "login", "login")
    ids = {each.user_id: f"credential {each.login}" for each in current.credentials.values()}
    ids.update({user_id: f"user {user_id}" for user_id in current.users})
    units = {**current.units, **{unit.unit_id: unit for unit in file.units.values()}}
    for path, credential in file.credentials.items():
        login = credential.login
        yield from _caps(path, credential)
        name, secret = ("key", "secret") if credential.is_client else ("login", "password")
        yield from _unknown_person(file, current, f"{path}.person", credential.person_id)
        if credential.unit_id and not credential.is_client:
            till = units.get(credential.unit_id)
            if till is None or till.kind is not UnitKind.TILL:
                yield Problem(f"{path}.till", f"there is no till {credential.unit_id}: list it under units.tills")
        owner = ids.get(credential.user_id)
        if owner is not None and owner != f"credential {login}":
            yield Problem(f"{path}.id", f"{owner} has the id {credential.user_id}: use another")
        if current.login_owners.get(login, file.settings.org_id) != file.settings.org_id:
            yield Problem(f"{path}.{name}", f"the {name} {login} belongs to another organisation: use another")
        if login and login not in current.credentials and path not in file.passwords:
            md5 = "" if credential.is_client else "passwordMd5, "
            yield Problem(
                path, f"the new credential {login} needs a {secret}: add {secret}, {md5}{secret}Env, "
                f"{secret}File or {secret}Prompt"
            )  # fmt: skip


def _caps(path: str, credential: Credential) -> Iterator[Problem]:
    per_call, per_day = credential.direct_cap_per_call, credential.direct_cap_per_day
    for name, cap in (("directCapPerCall", per_call), ("directCapPerDay", per_day)):
        if cap is not None and Right.MOVE_DIRECTLY not in credential.rights:
            yield Problem(f"{path}.{name}", f"is a cap on {Right.MOVE_DIRECTLY}, which is not in rights: leave it out")
    if per_call is not None and per_day is not None and per_call > per_day:
        yield Problem(f"{path}.directCapPerCall", "must not be above directCapPerDay")


def _unknown_person(file: OrganisationFile, current: Current, path: str, person_id: str | None) -> Iterator[Problem]:
    if not person_id or person_id in current.people:
        return
    if all(person.person_id != person_id for person in file.people.values()):
        yield Problem(path, f"there is no person {person_id}: list them under people")


def _groups(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    groups = file.groups or {}
    yield from twice(groups, lambda group: group.group_id, "group", "id")
    for path, group in groups.items():
        for number, person_id in enumerate(group.people):
            yield from _unknown_person(file, current, f"{path}.people[{number}]", person_id)
    if file.groups is not None and file.grants is None:
        listed = {group.group_id for group in groups.values()}
        for group_id in sorted({grant.group_id for grant in current.grants if grant.group_id} - listed):
            yield Problem("groups", f"a grant is given to the group {group_id}: keep it, or list the grants without it")


def _administers_everywhere(path: str, grant: Grant) -> Iterator[Problem]:
    if grant.access_right is Right.ADMINISTER:
        for name, value in (("unit", grant.unit_id), ("type", grant.request_type), ("pointsMax", grant.points_max)):
            if value is not None:
                yield Problem(f"{path}.{name}", "CanAdminister is for the whole organisation: leave this out")


def _grants(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    people = {*current.people, *(person.person_id for person in file.people.values()), ""}
    units = {*current.units, *(unit.unit_id for unit in file.units.values()), 0, None}
    groups = {*current.groups} if file.groups is None else {group.group_id for group in file.groups.values()}
    seen: dict[tuple[object, ...], str] = {}
    for path, grant in (file.grants or {}).items():
        if grant.person_id not in people:
            yield Problem(f"{path}.person", f"there is no person {grant.person_id}: list them under people")
        if grant.group_id is not None and grant.group_id not in groups:
            yield Problem(f"{path}.group", f"there is no group {grant.group_id}: list it under groups")
        if grant.unit_id not in units:
            yield Problem(f"{path}.unit", f"there is no unit {grant.unit_id}: list it under units")
        yield from _administers_everywhere(path, grant)
        if grant.valid_from and grant.valid_until and grant.valid_from >= grant.valid_until:
            yield Problem(f"{path}.until", "must be after `from`; the grant ends when `until` begins")
        if grant.points_max is not None and grant.request_type not in (None, *WITH_POINTS):
            yield Problem(
                f"{path}.pointsMax", f"{grant.request_type} requests have no points, so a limited grant covers none: "
                "leave it out"
            )  # fmt: skip
        if (grant.person_id or grant.group_id) and seen.setdefault(grant_key(grant), path) != path:
            yield Problem(path, f"is the same grant as {seen[grant_key(grant)]}: keep one of them")


def grant_key(grant: Grant) -> tuple[object, ...]:
    """All that a grant says: two grants with the same key are the same."""
    return (
        grant.person_id,
        grant.group_id,
        grant.unit_id,
        grant.access_right,
        grant.request_type,
        grant.points_max,
        grant.valid_from,
        grant.valid_until,
    )


def _hosts(file: OrganisationFile) -> Iterator[Problem]:
    hosts = file.hosts or {}
    yield from twice(hosts, lambda host: host.host_id, "host", "id")
    addresses = {path: host for path, host in hosts.items() if host.pattern}
    yield from twice(addresses, lambda host: f"{host.scheme}://{host.pattern}:{host.port}", "the address", "url")
