"""Organisations: the snapshot that the rules judge by, and the directory of logins."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from counterfoil.domain.access import Grant, OrgUnit
from counterfoil.domain.callers import AccessGroup, TrustedIssuer
from counterfoil.domain.organisations import (
    Credential,
    Delegation,
    Freeze,
    Group,
    Host,
    Organisation,
    Person,
    Programme,
    ReasonCode,
    User,
)
from counterfoil.domain.policies import Cap, CapSubject, Policy, Rule
from counterfoil.storage import statements
from counterfoil.storage.database import Tx

_SQL = statements.load("organisations.sql")


class _Document(msgspec.Struct):
    """A policy as it is stored. `counts`: some request may be counted in a counter under it."""

    approvals: int = 1
    rules: tuple[Rule, ...] = ()
    caps: tuple[Cap, ...] = ()
    counts: bool = False


class _Policy(msgspec.Struct):
    revision: int
    document: _Document


class _Snapshot(msgspec.Struct):
    org_id: int
    version: int
    name: str
    time_zone: str
    wire_time_zone: str
    country_code: str
    profile: str
    control: str
    echo_credentials: str
    read_scope: str
    units: list[OrgUnit]
    people: list[Person]
    users: list[User]
    credentials: list[Credential]
    grants: list[Grant]
    delegations: list[Delegation]
    freezes: list[Freeze]
    reason_codes: list[ReasonCode]
    access_groups: list[AccessGroup]
    issuers: list[TrustedIssuer]
    hosts: list[Host]
    policy: _Policy | None
    programme: Programme | None
    groups: list[Group]
    ever_capped: bool
    incident_quorum: int


_snapshot = msgspec.json.Decoder(_Snapshot, strict=False)
_encode = msgspec.json.encode
_NO_PROGRAMME = Programme(0, "none", Decimal(1))


async def find_organisation(tx: Tx, org_id: int) -> Organisation | None:
    """The organisation as it stands now, or None."""
    document = await tx.fetchval(_SQL["fetch_organisation"], org_id)
    if document is None:
        return None
    read = _snapshot.decode(document)
    return Organisation(
        org_id=read.org_id,
        version=read.version,
        name=read.name,
        time_zone=read.time_zone,
        wire_time_zone=read.wire_time_zone,
        country_code=read.country_code,
        profile=read.profile,
        control=read.control,
        echo_credentials=read.echo_credentials,
        units={unit.unit_id: unit for unit in read.units},
        people={person.person_id: person for person in read.people},
        users={user.user_id: user for user in read.users},
        credentials={credential.login: credential for credential in read.credentials},
        hosts=tuple(read.hosts),
        policy=None if read.policy is None else _policy(read.policy),
        programme=read.programme or _NO_PROGRAMME,
        grants=tuple(read.grants),
        delegations=tuple(read.delegations),
        freezes=tuple(read.freezes),
        reason_codes=tuple(read.reason_codes),
        read_scope=read.read_scope,
        groups={group.group_id: group for group in read.groups},
        ever_capped=read.ever_capped,
        access_groups=tuple(read.access_groups),
        issuers=tuple(read.issuers),
        incident_quorum=read.incident_quorum,
    )


def _policy(read: _Policy) -> Policy:
    return Policy(read.revision, read.document.approvals, read.document.rules, read.document.caps)


def policy_document(policy: Policy) -> str:
    """The stored form of a policy."""
    counts = any(cap.per is not CapSubject.REQUEST for cap in policy.caps) or any(rule.auto for rule in policy.rules)
    return _encode(_Document(policy.approvals_required, policy.rules, policy.caps, counts)).decode()


async def find_organisation_of_login(tx: Tx, login: str) -> int | None:
    """The organisation that a calling system's login belongs to, or None."""
    org_id: int | None = await tx.fetchval(_SQL["organisation_of_login"], login)
    return org_id


async def list_organisations(tx: Tx) -> list[int]:
    """Every organisation that has a login."""
    return [row["org_id"] for row in await tx.fetch(_SQL["list_organisations"])]


async def fetch_version(tx: Tx, org_id: int) -> int | None:
    """The organisation's current version, or None for an unknown one."""
    version: int | None = await tx.fetchval(_SQL["fetch_version"], org_id)
    return version
