"""The difference between an organisation file and the organisation, as records to write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain import member_entries
from counterfoil.domain.access import Grant, OrgUnit, UnitKind
from counterfoil.domain.callers import AccessGroup, TrustedIssuer
from counterfoil.domain.member_entries import MemberChange
from counterfoil.domain.organisation_files import (
    Current,
    OrganisationFile,
    OrganisationSettings,
    grant_key,
)
from counterfoil.domain.organisations import Credential, Group, Host, Person, Programme, ReasonCode, User
from counterfoil.domain.payloads import points_text
from counterfoil.domain.policies import Policy

R = TypeVar("R")


class Change(Struct, Generic[R], frozen=True):
    """One record that comes (`before` None), goes (`after` None) or differs."""

    what: str
    key: str
    before: R | None
    after: R | None

    @property
    def sign(self) -> str:
        """Return + for what comes, - for what goes, ~ for what differs."""
        return "+" if self.before is None else "-" if self.after is None else "~"


class Difference(Struct, frozen=True):
    """All that applying a file changes. `version` is the organisation's afterwards."""

    version: int
    settings: tuple[Change[OrganisationSettings], ...]
    units: tuple[Change[OrgUnit], ...]
    people: tuple[Change[Person], ...]
    users: tuple[Change[User], ...]
    credentials: tuple[Change[Credential], ...]
    groups: tuple[Change[Group], ...]
    access_groups: tuple[Change[AccessGroup], ...]
    issuers: tuple[Change[TrustedIssuer], ...]
    grants: tuple[Change[Grant], ...]
    hosts: tuple[Change[Host], ...]
    policy: tuple[Change[Policy], ...]
    programme: tuple[Change[Programme], ...]
    reason_codes: tuple[Change[ReasonCode], ...]
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
            *self.groups,
            *self.access_groups,
            *self.issuers,
            *self.grants,
            *self.hosts,
            *self.policy,
            *self.programme,
            *self.reason_codes,
        )

    def __bool__(self) -> bool:
        """Whether there is anything to change."""
        return bool(self.records or self.members)


def difference(
    file: OrganisationFile,
    current: Current,
    new_hashes: Mapping[str, str],
    sealed: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> Difference:
    """Compare a file that has no problems with what is there.

    `new_hashes` has the hash of each password that is new or another than the stored one, by place; of a
    trusted issuer, its keys in their stored form. `sealed` has the own credential of each host that has one,
    with the digest to compare it by.
    """
    version = current.version + 1
    units = {str(unit.unit_id): unit for unit in file.units.values()}
    people = {person.person_id: person for person in file.people.values()}
    known_policy = current.policy
    # Without a policy nothing can be requested; the contract's own is one approval.
    policy = file.policy.policy if file.policy else known_policy or Policy(1)
    policy = replace(policy, revision=known_policy.revision if known_policy else 1)
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
        credentials=_credentials(file, current, new_hashes),
        groups=_complete_list("group", file.groups, current.groups, attrgetter("group_id")),
        access_groups=_complete_list("accessGroup", file.access_groups, current.access_groups, attrgetter("name")),
        issuers=_issuers(file, current, new_hashes),
        grants=_grants(file, current),
        hosts=_hosts(file, current, version, sealed),
        policy=_compare("policy", {f"revision {policy.revision}": (known_policy, policy)}),
        programme=_compare(
            "programme",
            {str(file.programme.programme_id): (current.programme, file.programme)} if file.programme else {},
        ),
        reason_codes=_reason_codes(file, current),
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
) -> tuple[Change[Credential], ...]:
    pairs: dict[bool, dict[str, tuple[Credential | None, Credential]]] = {False: {}, True: {}}
    for path, credential in file.credentials.items():
        known = current.credentials.get(credential.login)
        hashed = new_hashes.get(path) or (known.secret_hash if known else "")
        # A token of before must not come back to life with the client.
        ended = known is not None and known.active and not credential.active and known.is_client
        epoch = known.epoch + (path in new_hashes or ended) if known else 1
        pairs[credential.is_client][credential.login] = (known, replace(credential, secret_hash=hashed, epoch=epoch))
    return (*_compare("credential", pairs[False]), *_compare("oauthClient", pairs[True]))


def _complete_list(
    what: str, listed: Mapping[str, R] | None, known: Mapping[str, R], key: Callable[[R], str]
) -> tuple[Change[R], ...]:
    """What is not listed any more goes; without a list everything stays."""
    if listed is None:
        return ()
    wanted = {key(each): each for each in listed.values()}
    gone = (Change(what, name, before, None) for name, before in known.items() if name not in wanted)
    return (*gone, *_compare(what, {name: (known.get(name), each) for name, each in wanted.items()}))


def _issuers(
    file: OrganisationFile, current: Current, new_hashes: Mapping[str, str]
) -> tuple[Change[TrustedIssuer], ...]:
    listed = file.issuers and {
        path: dataclasses.replace(each, keys=new_hashes.get(path) or (known.keys if known else ""))
        for path, each in file.issuers.items()
        for known in (current.issuers.get(each.issuer),)
    }
    return _complete_list("uiTokenIssuer", listed, current.issuers, attrgetter("issuer"))


def _grants(file: OrganisationFile, current: Current) -> tuple[Change[Grant], ...]:
    """Grants have no name of their own, so one that differs is another one."""
    if file.grants is None:
        return ()
    known = {grant_key(grant): grant for grant in current.grants}
    wanted = {grant_key(grant): grant for grant in file.grants.values()}
    gone = [Change("grant", _grant_text(grant), grant, None) for key, grant in known.items() if key not in wanted]
    new = [Change("grant", _grant_text(grant), None, grant) for key, grant in wanted.items() if key not in known]
    return (*gone, *new)


def _reason_codes(file: OrganisationFile, current: Current) -> tuple[Change[ReasonCode], ...]:
    if file.reason_codes is None:
        return ()
    known = {(each.code, each.request_type): each for each in current.reason_codes}
    wanted = {(each.code, each.request_type): each for each in file.reason_codes.values()}
    return tuple(
        Change("reason code", f"{key[0]} for {key[1] or 'all types'}", known.get(key), wanted.get(key))
        for key in dict.fromkeys((*known, *wanted))
        if known.get(key) != wanted.get(key)
    )


def _grant_text(grant: Grant) -> str:
    holder = f"group {grant.group_id}" if grant.group_id else grant.person_id
    parts = [holder, grant.access_right.value, f"at {grant.unit_id or 'the whole organisation'}"]
    parts.append(f"for {grant.request_type or 'all types'}")
    if grant.points_max:
        parts.append(f"up to {points_text(grant.points_max)} points")
    if grant.valid_from:
        parts.append(f"from {grant.valid_from.isoformat()}")
    if grant.valid_until:
        parts.append(f"until {grant.valid_until.isoformat()}")
    return " ".join(parts)


def _hosts(
    file: OrganisationFile, current: Current, version: int, sealed: Mapping[str, tuple[str, str]]
) -> tuple[Change[Host], ...]:
    if file.hosts is None:
        return ()
    wanted = {}
    for path, host in file.hosts.items():
        known = current.hosts.get(host.host_id)
        own = sealed.get(path)
        if path in file.passwords and known is not None and (own is None or own[1] == known.credential_mac):
            # The same credential, or none was typed: what is sealed already stays.
            own = (known.credential_sealed or "", known.credential_mac or "") if known.credential_mac else None
        wanted[host.host_id] = replace(host, credential_sealed=own[0], credential_mac=own[1]) if own else host
    changes = [Change("host", key, host, None) for key, host in current.hosts.items() if key not in wanted]
    for key, host in wanted.items():
        known = current.hosts.get(key)
        revised = _revised(known, host, version)
        if revised != known:
            changes.append(Change("host", key, known, revised))
    return tuple(changes)


def _revised(known: Host | None, host: Host, version: int) -> Host:
    """The entry with its revision, for which requests are approved: another one when anything but its pace changes.

    The organisation's version as revision never comes back, not even when an entry is removed and added again.
    """
    if known is not None:
        same = replace(host, revision=known.revision)
        pace = {name: getattr(host, name) for name in ("attempt_seconds", "overall_seconds", "concurrency")}
        # With less time for a call, one that is out already would be taken for ended while the host may still act.
        if same == replace(known, **pace) and host.attempt_seconds >= known.attempt_seconds:
            return same
    return replace(host, revision=version)
