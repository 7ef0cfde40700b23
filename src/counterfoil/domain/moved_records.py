"""Whether the records of a proposed change are still what they were when it was proposed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from counterfoil.domain.access import Grant, OrgUnit
from counterfoil.domain.callers import AccessGroup, TrustedIssuer
from counterfoil.domain.member_entries import MemberChange
from counterfoil.domain.organisation_changes import Change, Difference
from counterfoil.domain.organisation_files import Current, MemberEntry, OrganisationSettings, grant_key
from counterfoil.domain.organisations import Credential, Group, Host, Organisation, Person, Programme, ReasonCode, User
from counterfoil.domain.policies import Policy


def settings_of(organisation: Organisation) -> OrganisationSettings:
    """The organisation's own fields as a file has them."""
    return OrganisationSettings(
        organisation.org_id, organisation.name, organisation.time_zone, organisation.wire_time_zone,
        organisation.country_code, organisation.profile, organisation.control, organisation.echo_credentials,
        organisation.read_scope, organisation.incident_quorum,
    )  # fmt: skip


def moved(difference: Difference, organisation: Organisation, current: Current) -> Iterator[str]:
    """Every record of the difference that is not any more what it was when the difference was made."""
    for change in difference.records:
        if _now(change, organisation) != change.before:
            yield f"{change.what} {change.key}"
    for member in difference.members:
        if _has_moved(member, current.members.get(member.member_id)):
            yield f"member {member.member_id}"


def _now(change: Change[Any], organisation: Organisation) -> object:
    """The record of a change as the organisation has it, None where it has none."""
    record = change.after or change.before
    find = _FINDERS.get(type(record))
    if find is None:
        raise AssertionError(f"nobody looks whether a {type(record).__name__} has moved (this is a bug)")
    return find(organisation, record)


def _find_grant(organisation: Organisation, grant: Grant) -> Grant | None:
    return next((each for each in organisation.grants if grant_key(each) == grant_key(grant)), None)


# How the record that has the same key as another one is found.
_FINDERS: Final[Mapping[type, Callable[[Organisation, Any], object]]] = {
    OrganisationSettings: lambda organisation, _: settings_of(organisation),
    OrgUnit: lambda organisation, unit: organisation.units.get(unit.unit_id),
    Person: lambda organisation, person: organisation.people.get(person.person_id),
    User: lambda organisation, user: organisation.users.get(user.user_id),
    Credential: lambda organisation, credential: organisation.credentials.get(credential.login),
    AccessGroup: lambda organisation, group: {each.name: each for each in organisation.access_groups}.get(group.name),
    TrustedIssuer: lambda organisation, issuer: {each.issuer: each for each in organisation.issuers}.get(issuer.issuer),
    Group: lambda organisation, group: organisation.groups.get(group.group_id),
    Grant: _find_grant,
    Host: lambda organisation, host: {each.host_id: each for each in organisation.hosts}.get(host.host_id),
    Policy: lambda organisation, _: organisation.policy,
    Programme: lambda organisation, _: organisation.programme if organisation.programme.programme_id else None,
    ReasonCode: lambda organisation, reason: {
        (each.code, each.request_type): each for each in organisation.reason_codes
    }.get((reason.code, reason.request_type)),
}


def _has_moved(change: MemberChange, known: MemberEntry | None) -> bool:
    if known is None:
        return not change.is_new
    awarded = {lot.reference for lot in known.lots}
    return (
        change.is_new
        or dict(known.identifiers) != dict(change.before)
        or any(lot.reference in awarded for lot in change.lots)
    )
