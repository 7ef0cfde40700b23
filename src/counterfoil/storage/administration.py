"""Organisation files in the database: what is there, and the difference written in sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import islice
from typing import Any, Final, TypeVar

import asyncpg

from counterfoil.domain.member_entries import MemberChange
from counterfoil.domain.organisation_changes import Change, Difference
from counterfoil.domain.organisation_files import (
    Award,
    Current,
    MemberEntry,
    OrganisationFile,
    OrganisationSettings,
)
from counterfoil.domain.seals import Event
from counterfoil.storage import callers, migrations, organisations, statements
from counterfoil.storage.database import Tx

R = TypeVar("R")
_SQL = statements.load("administration.sql")
ROWS_PER_STATEMENT: Final = 5_000
LOCK_SECONDS_MAX: Final = 30
ANALYSE_FROM_MEMBERS: Final = 1_000


class LoginTaken(Exception):
    """Another organisation has claimed these logins at the same moment."""

    def __init__(self, logins: Sequence[str]) -> None:
        super().__init__(", ".join(logins))
        self.logins = logins


@asynccontextmanager
async def transaction(url: str, *, keep: bool) -> AsyncIterator[Tx]:
    """One transaction on a connection of its own, with all the time it needs; undone unless `keep`."""
    # No prepared statements: this connection may well go through a transaction pooler.
    connection = await asyncpg.connect(
        url, statement_cache_size=0, server_settings={"application_name": "counterfoil org apply"}
    )
    try:
        await migrations.check(connection)
        work = connection.transaction()
        await work.start()
        try:
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX}s'; SET LOCAL statement_timeout = 0")
            yield connection
        except BaseException:
            if not connection.is_closed():
                await work.rollback()
            raise
        await (work.commit() if keep else work.rollback())
    finally:
        await connection.close()


async def lock(tx: Tx, settings: OrganisationSettings) -> bool:
    """Lock the organisation against other administration; True when it was not there until now."""
    is_new = await tx.fetchval(_SQL["insert_organisation"], *_settings_row(settings)) is not None
    await tx.execute(_SQL["lock_organisation"], settings.org_id)
    return is_new


async def load(tx: Tx, file: OrganisationFile, *, is_new: bool) -> tuple[Current, datetime]:
    """What the database has of everything that the file may change, and the time; lock first."""
    org_id = file.settings.org_id
    times = await tx.fetchrow(_SQL["fetch_now"], org_id)
    logins = [credential.login for credential in file.credentials.values()]
    owners = {row["login"]: row["org_id"] for row in await tx.fetch(_SQL["list_login_owners"], logins)}
    if times is None:
        raise AssertionError("a SELECT without FROM has one row (this is a bug)")
    known = None if is_new else await organisations.find_organisation(tx, org_id)
    if known is None:
        return Current(login_owners=owners), times["now"]
    current = Current(
        settings=OrganisationSettings(
            known.org_id, known.name, known.time_zone, known.wire_time_zone, known.country_code,
            known.profile, known.control, known.echo_credentials, known.read_scope, known.incident_quorum,
        ),
        organisation=known,
        version=known.version,
        units=known.units,
        people=known.people,
        users=known.users,
        credentials=known.credentials,
        groups=known.groups,
        grants=known.grants,
        access_groups={group.name: group for group in known.access_groups},
        issuers={issuer.issuer: issuer for issuer in known.issuers},
        hosts={host.host_id: host for host in known.hosts},
        policy=known.policy,
        reason_codes=known.reason_codes,
        programme=known.programme if known.programme.programme_id else None,
        has_members=times["has_members"],
        login_owners=owners,
        members=await _members(tx, org_id, [entry.member_id for entry in file.members.values()]),
        owners=await _owners(tx, org_id, file),
    )  # fmt: skip
    return current, times["now"]


async def _members(tx: Tx, org_id: int, member_ids: Iterable[int]) -> dict[int, MemberEntry]:
    members: dict[int, MemberEntry] = {}
    for chunk in _chunks(sorted(set(member_ids))):
        identifiers: dict[int, dict[str, str]] = {}
        for row in await tx.fetch(_SQL["list_member_identifiers"], org_id, chunk):
            of_member = identifiers.setdefault(row["member_id"], {})
            if row["kind"] is not None:
                of_member[row["kind"]] = row["value"]
        lots: dict[int, list[Award]] = defaultdict(list)
        for row in await tx.fetch(_SQL["list_lots"], org_id, chunk):
            lots[row["member_id"]].append(Award(row["reference"], row["points"], row["awarded_at"], row["expires_at"]))
        for member_id, of_member in identifiers.items():
            members[member_id] = MemberEntry(member_id, of_member, lots[member_id])
    return members


async def _owners(tx: Tx, org_id: int, file: OrganisationFile) -> dict[tuple[str, str], int]:
    owners: dict[tuple[str, str], int] = {}
    asked = (pair for entry in file.members.values() for pair in entry.identifiers.items())
    for chunk in _chunks(asked):
        kinds, values = zip(*chunk, strict=True)
        for row in await tx.fetch(_SQL["list_identifier_owners"], org_id, kinds, values):
            owners[row["kind"], row["value"]] = row["member_id"]
    return owners


async def write(
    tx: Tx, settings: OrganisationSettings, difference: Difference, now: datetime, new_id: Callable[[], Any]
) -> None:
    """Write a difference; `new_id` makes the ids of grants, lots and journals. Raises LoginTaken."""
    org_id = settings.org_id
    await tx.execute(_SQL["update_organisation"], *_settings_row(settings), difference.version)
    await _write_units_and_people(tx, org_id, difference)
    await callers.write_access_groups(tx, org_id, difference.access_groups)
    await _write_credentials(tx, org_id, difference)
    await callers.delete_access_groups(tx, org_id, difference.access_groups)
    await callers.write_issuers(tx, org_id, difference.issuers)
    await _write_grants_and_hosts(tx, org_id, difference, new_id)
    for policy in _after(difference.policy):
        await tx.execute(_SQL["insert_policy"], org_id, policy.revision, organisations.policy_document(policy), now)
    for programme in _after(difference.programme):
        await tx.execute(
            _SQL["write_programme"], org_id, programme.programme_id, programme.name,
            programme.currency_per_point, programme.hold_days, programme.release_grace_hours,
            programme.goodwill_expiry_days, programme.goodwill_points_max,
        )  # fmt: skip
    gone = [(each.before.code, each.before.request_type or "*") for each in difference.reason_codes if each.before]
    await _execute(tx, "delete_reason_codes", org_id, gone)
    codes = [(each.code, each.request_type or "*", each.name) for each in _after(difference.reason_codes)]
    await _execute(tx, "insert_reason_codes", org_id, codes)
    await _write_members(tx, org_id, difference.members, now, new_id)


def _settings_row(settings: OrganisationSettings) -> tuple[Any, ...]:
    return (
        settings.org_id, settings.name, settings.time_zone, settings.wire_time_zone, settings.country_code,
        settings.profile, settings.control, settings.echo_credentials, settings.read_scope,
        settings.incident_quorum,
    )  # fmt: skip


async def _write_units_and_people(tx: Tx, org_id: int, difference: Difference) -> None:
    await _execute(
        tx, "write_units", org_id,
        [
            (unit.unit_id, unit.kind, unit.name, unit.code, unit.zone_parent_id, unit.concept_parent_id,
             unit.store_id, unit.active, ",".join(unit.external_ids))
            for unit in _after(difference.units)
        ],
    )  # fmt: skip
    people = list(_after(difference.people))
    await _execute(tx, "write_people", org_id, [(each.person_id, each.name, each.active) for each in people])
    if people:
        await tx.execute(_SQL["delete_person_identifiers"], org_id, [each.person_id for each in people])
    identifiers = [(each.person_id, kind, value) for each in people for kind, value in each.member_identifiers]
    await _execute(tx, "insert_person_identifiers", org_id, identifiers)
    renamed = [
        change.after.user_id
        for change in difference.users
        if change.before and change.after and change.before.user_name != change.after.user_name
    ]
    if renamed:
        await tx.execute(_SQL["free_user_names"], org_id, renamed)
    await _execute(
        tx, "write_users", org_id,
        [
            (user.user_id, user.user_name, user.person_id, user.password_hash, user.epoch, user.active)
            for user in _after(difference.users)
        ],
    )  # fmt: skip


async def _write_credentials(tx: Tx, org_id: int, difference: Difference) -> None:
    credentials = list(_after(difference.credentials))
    await _execute(
        tx, "write_credentials", org_id,
        [
            (each.login, each.user_id, each.person_id, each.unit_id, each.secret_hash, ",".join(each.rights),
             each.epoch, each.active, each.kind, each.token_seconds, each.access_group, each.direct_cap_per_call,
             each.direct_cap_per_day)
            for each in credentials
        ],
    )  # fmt: skip
    if not credentials:
        return
    capped = [(each.login,) for each in credentials if each.direct_cap_per_day is not None]
    await _execute(tx, "insert_direct_use", org_id, capped)
    logins = [each.login for each in credentials]
    await tx.execute(_SQL["insert_logins"], org_id, logins)
    taken = [row["login"] for row in await tx.fetch(_SQL["list_login_owners"], logins) if row["org_id"] != org_id]
    if taken:
        raise LoginTaken(taken)


async def _write_grants_and_hosts(tx: Tx, org_id: int, difference: Difference, new_id: Callable[[], Any]) -> None:
    revoked = [(change.before.grant_id,) for change in difference.grants if change.before]
    await _execute(tx, "delete_grants", org_id, revoked)
    await _write_groups(tx, org_id, difference)
    await _execute(
        tx, "insert_grants", org_id,
        [
            (new_id(), grant.person_id or None, grant.group_id, grant.unit_id, grant.access_right, grant.request_type,
             grant.points_max, grant.valid_from, grant.valid_until)
            for grant in _after(difference.grants)
        ],
    )  # fmt: skip
    gone = [(change.before.host_id,) for change in difference.hosts if change.before]
    await _execute(tx, "delete_hosts", org_id, gone)
    await _execute(
        tx, "insert_hosts", org_id,
        [
            (host.host_id, host.scheme, host.pattern, host.port, host.target, host.revision, host.base_url,
             host.plain_http, host.private, host.link_local, host.ca_pem, host.credential_sealed, host.credential_mac,
             host.attempt_seconds, host.overall_seconds, host.absent_after_seconds, host.look_up, host.concurrency)
            for host in _after(difference.hosts)
        ],
    )  # fmt: skip


async def _write_groups(tx: Tx, org_id: int, difference: Difference) -> None:
    """Groups that come, go or differ, with all their people; grants to those that go are gone already."""
    touched = [change.key for change in difference.groups]
    if not touched:
        return
    await tx.execute(_SQL["delete_group_members"], org_id, touched)
    gone = [change.key for change in difference.groups if change.after is None]
    await tx.execute(_SQL["delete_groups"], org_id, gone)
    groups = list(_after(difference.groups))
    await _execute(tx, "write_groups", org_id, [(group.group_id, group.name) for group in groups])
    members = [(group.group_id, person_id) for group in groups for person_id in group.people]
    await _execute(tx, "insert_group_members", org_id, members)


async def _write_members(
    tx: Tx, org_id: int, members: Sequence[MemberChange], now: datetime, new_id: Callable[[], Any]
) -> None:
    """Members come in the order of their ids, which is the order of their locks."""
    known = [member.member_id for member in members if not member.is_new]
    for chunk in _chunks(known):
        await tx.execute(_SQL["lock_members"], org_id, chunk)
    # Before anybody gets one, so that members can swap theirs.
    given_up = (
        (kind, value, member.member_id)
        for member in members
        for kind, value in member.before.items()
        if member.after[kind] != value
    )
    for rows in _chunks(given_up):
        await _execute(tx, "delete_identifiers", org_id, rows)
    for part in _chunks(members):
        await _write_part(tx, org_id, part, now, new_id)


async def _write_part(
    tx: Tx, org_id: int, members: Sequence[MemberChange], now: datetime, new_id: Callable[[], Any]
) -> None:
    rows: dict[bool, list[tuple[Any, ...]]] = {True: [], False: []}
    for member in members:
        shown = (member.after.get(kind, "") for kind in ("mobile", "email", "external_id"))
        rows[member.is_new].append((member.member_id, *shown, member.points))
    await _execute(tx, "insert_members", org_id, rows[True])
    await _execute(tx, "update_members", org_id, rows[False])
    await _execute(
        tx, "insert_identifiers", org_id,
        [
            (kind, value, member.member_id)
            for member in members
            for kind, value in member.after.items()
            if member.before.get(kind) != value
        ],
    )  # fmt: skip
    awards = (
        (new_id(), new_id(), member.member_id, lot.reference, lot.points, lot.awarded_at, lot.expires_at)
        for member in members
        for lot in member.lots
    )
    for part in _chunks(awards):
        await _execute(tx, "insert_awards", org_id, part, now)


async def append_events(tx: Tx, org_id: int, events: Sequence[Event]) -> None:
    """Write audit events."""
    await _execute(
        tx, "insert_events", org_id,
        [
            (each.subject_id, each.event_id, each.kind, each.at, each.facts, each.personal, each.leaf_hash)
            for each in events
        ],
    )  # fmt: skip


async def analyse(url: str) -> None:
    """Let the planner know what an import has brought."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        await connection.execute(_SQL["analyse"])
    finally:
        await connection.close()


async def _execute(tx: Tx, name: str, org_id: int, rows: Sequence[tuple[Any, ...]], *further: object) -> None:
    """Run a statement over rows, turned into one array for each column; nothing for no rows."""
    if rows:
        await tx.execute(_SQL[name], org_id, *zip(*rows, strict=True), *further)


def _after(changes: Iterable[Change[R]]) -> Iterator[R]:
    """The records that are there afterwards."""
    for change in changes:
        if change.after is not None:
            yield change.after


def _chunks(items: Iterable[R]) -> Iterator[list[R]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, ROWS_PER_STATEMENT)):
        yield chunk
