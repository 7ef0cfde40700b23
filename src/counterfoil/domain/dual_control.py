"""What must be true of an organisation under dual control, and who may administer it.

Two administrators change an organisation together: one proposes, another decides. Neither of them decides requests
for points, so that whoever gives rights cannot use them on the same day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from counterfoil.domain import access, identities
from counterfoil.domain.access import Actor, Grant, Right
from counterfoil.domain.callers import may_call
from counterfoil.domain.organisation_changes import Change, Difference
from counterfoil.domain.organisation_files import OrganisationSettings, Problem
from counterfoil.domain.organisations import Credential, Organisation, Programme
from counterfoil.domain.refusals import NotPermitted, SelfInterest

ADMINISTRATORS_MIN: Final = 2
# Without a credential that may make these calls, nobody could ever change the organisation again.
NEEDED_CALLS: Final = (
    "POST /counterfoil/v1/admin-changes",
    "POST /counterfoil/v1/admin-changes/{change_id}/decisions",
)
_NO_PROGRAMME: Final = Programme(0, "none")


def may_read_changes(organisation: Organisation, actor: Actor, now: datetime) -> NotPermitted | None:
    """Return None for a person who administers; a calling system alone is nobody here."""
    person = organisation.people.get(actor.person_id or "")
    if not actor.has_user or person is None or not person.active:
        return NotPermitted("administration needs a person: send an administrator's token in X-CAP-UI-AUTH-TOKEN")
    if not organisation.is_administrator(person.person_id, now):
        return NotPermitted(
            f"{actor.user_name} does not administer this organisation: ask its administrators for CanAdminister"
        )
    return None


def may_administer(organisation: Organisation, actor: Actor, now: datetime) -> NotPermitted | None:
    """Return None when the actor may propose or decide a change of the organisation."""
    if organisation.control != "dual":
        return NotPermitted(
            "the organisation is under single control, where nothing is proposed: an operator applies the file with "
            "`counterfoil org apply`, after `counterfoil logout`, where the database is"
        )
    refused = may_read_changes(organisation, actor, now) or access.why_no_voice(actor, now)
    if refused is not None:
        return refused
    return why_not_administer(organisation, actor.person_id or "", now)


def may_propose(
    organisation: Organisation, actor: Actor, difference: Difference | None, now: datetime
) -> NotPermitted | None:
    """Return None when the actor may propose this difference, which is None while nobody has looked at the file."""
    refused = may_administer(organisation, actor, now)
    if refused is not None or difference is None:
        return refused
    return why_not_for_oneself(organisation, difference, actor.person_id or "")


def why_not_administer(organisation: Organisation, person_id: str, now: datetime) -> NotPermitted | None:
    """The reason why this person's part in a change does not count now; None when it does."""
    person = organisation.people.get(person_id)
    entitled = person_id in organisation.people_with_user and organisation.is_administrator(person_id, now)
    if person is None or not entitled:
        return NotPermitted(f"{person_id} does not administer this organisation any more")
    return access.suspension(person, now)


def why_not_for_oneself(organisation: Organisation, difference: Difference, person_id: str) -> SelfInterest | None:
    """The reason why this person has no part in a change that gives them points, by whatever number or identifier.

    An identifier that comes to somebody else's member brings that member's points.
    """
    known = (organisation.people.get(person_id), *(each.after for each in difference.people if each.key == person_id))
    mine = {key for each in known if each for key in (*each.member_identifiers, *each.member_ids)}
    for member in difference.members:
        was = not mine.isdisjoint({member.member_id, *member.before.items()})
        comes = not mine.isdisjoint(member.after.items())
        if (was or comes) if member.lots else (comes and not was and not member.is_new):
            return SelfInterest(
                f"{person_id} is a member who gets points by the change, and nobody proposes or approves what gives "
                f"oneself points: leave member {member.member_id} to other administrators"
            )
    return None


def administrators(organisation: Organisation, now: datetime) -> frozenset[str]:
    """Who can administer lastingly: active, able to sign in, by a grant that has begun and has no end.

    A suspension does not count here: it ends by itself.
    """
    can_sign_in = {user.person_id for user in organisation.users.values() if user.active and user.password_hash}
    return frozenset(
        person_id
        for person_id, grants in organisation.administrator_grants.items()
        if person_id in can_sign_in
        and organisation.people[person_id].active
        and any(grant.valid_until is None and grant.is_valid(now) for grant in grants)
    )


def problems(organisation: Organisation, now: datetime) -> Iterator[Problem]:
    """Everything that an organisation under dual control must not be; nothing under single control."""
    if organisation.control != "dual":
        return
    able = sorted(administrators(organisation, now))
    if len(able) < ADMINISTRATORS_MIN:
        yield Problem(
            "grants",
            f"dual control needs at least {ADMINISTRATORS_MIN} active people with a sign-in and a CanAdminister that "
            f"does not end; there would be {len(able)}{': ' if able else ''}{', '.join(able)}",
        )
    for person_id in sorted(organisation.administrator_grants):
        held = {each.access_right for each in organisation.grants_of_person[person_id] if not _has_ended(each, now)}
        for right in sorted(held & {Right.CHECK, Right.SETTLE}) if Right.ADMINISTER in held else ():
            yield Problem(
                "grants",
                f"{person_id} holds CanAdminister and {right}: under dual control administrators decide no points "
                "requests, so take one of them away",
            )
    active = [each for each in organisation.credentials.values() if each.active]
    for each in active:
        if Right.MOVE_DIRECTLY in each.rights and None in (each.direct_cap_per_call, each.direct_cap_per_day):
            yield Problem(
                "credentials",
                f"{each.login} has CanMovePointsDirectly: under dual control it needs directCapPerCall and "
                "directCapPerDay",
            )
    if not any(_reaches(organisation, each) for each in active):
        yield Problem(
            "credentials",
            "without an active credential that may propose and decide changes no administrator could reach the API: "
            f"keep one whose access group, if it has one, holds own, or {' and '.join(NEEDED_CALLS)}",
        )


def _reaches(organisation: Organisation, credential: Credential) -> bool:
    """Whether administrators can propose and decide through this calling system."""
    return identities.credential_of(organisation, credential.login, credential.kind) is not None and not any(
        may_call(credential.access_group, organisation.access_groups, label, "own", is_client=credential.is_client)
        for label in NEEDED_CALLS
    )


def _has_ended(grant: Grant, now: datetime) -> bool:
    return grant.valid_until is not None and grant.valid_until <= now


class DirectMover(Struct, frozen=True):
    """A calling system that moves points without a request, for reports. Caps in thousandths, None: no limit."""

    login: str
    person_id: str | None
    active: bool
    cap_per_call: int | None
    cap_per_day: int | None


def direct_movers(organisation: Organisation) -> list[DirectMover]:
    """Everybody who holds CanMovePointsDirectly, by login."""
    return [
        DirectMover(each.login, each.person_id, each.active, each.direct_cap_per_call, each.direct_cap_per_day)
        for _, each in sorted(organisation.credentials.items())
        if Right.MOVE_DIRECTLY in each.rights
    ]


def organisation_after(
    before: Organisation | None, settings: OrganisationSettings, difference: Difference
) -> Organisation:
    """The organisation as the difference leaves it, for rules that look at the whole."""
    start = before or Organisation(
        settings.org_id, 0, "", settings.time_zone, "", "", "", "", "",
        units={}, people={}, users={}, credentials={}, hosts=(), policy=None, programme=_NO_PROGRAMME, grants=(),
    )  # fmt: skip
    gone = {change.before.grant_id for change in difference.grants if change.before}
    hosts = _changed({host.host_id: host for host in start.hosts}, difference.hosts, str)
    groups = _changed({group.name: group for group in start.access_groups}, difference.access_groups, str)
    issuers = _changed({issuer.issuer: issuer for issuer in start.issuers}, difference.issuers, str)
    return replace(
        start,
        version=difference.version,
        name=settings.name,
        time_zone=settings.time_zone,
        wire_time_zone=settings.wire_time_zone,
        country_code=settings.country_code,
        profile=settings.profile,
        control=settings.control,
        echo_credentials=settings.echo_credentials,
        read_scope=settings.read_scope,
        incident_quorum=settings.incident_quorum,
        units=_changed(start.units, difference.units, int),
        people=_changed(start.people, difference.people, str),
        users=_changed(start.users, difference.users, int),
        credentials=_changed(start.credentials, difference.credentials, str),
        groups=_changed(start.groups, difference.groups, str),
        reason_codes=(
            *(each for each in start.reason_codes if each not in [change.before for change in difference.reason_codes]),
            *(change.after for change in difference.reason_codes if change.after),
        ),
        access_groups=tuple(groups.values()),
        issuers=tuple(issuers.values()),
        hosts=tuple(hosts.values()),
        policy=next((change.after for change in difference.policy), start.policy),
        programme=next((change.after for change in difference.programme if change.after), start.programme),
        grants=(
            *(grant for grant in start.grants if grant.grant_id not in gone),
            *(change.after for change in difference.grants if change.after),
        ),
    )


def _changed(records: Mapping[Any, Any], changes: Sequence[Change[Any]], key: type) -> dict[Any, Any]:
    after = dict(records)
    for change in changes:
        if change.after is None:
            after.pop(key(change.key), None)
        else:
            after[key(change.key)] = change.after
    return after
