"""The verbs on ADMIN-CHANGE requests: an organisation file is proposed, and another administrator decides it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec

from counterfoil.application import administration, delegations, ids, organisation_files
from counterfoil.application.administration import CannotApply, PasswordSources
from counterfoil.application.keys import Keyring
from counterfoil.application.requests import Stale, is_current
from counterfoil.domain import admin_changes as rules
from counterfoil.domain import dual_control
from counterfoil.domain.access import Actor
from counterfoil.domain.admin_changes import AdminChange, DecideChange, DecidedChange, Propose
from counterfoil.domain.organisation_changes import Difference
from counterfoil.domain.organisation_files import Current, OrganisationFile, Problem
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import NotPermitted, Refusal
from counterfoil.domain.seals import make_event
from counterfoil.storage import admin_changes, changes
from counterfoil.storage import administration as stored
from counterfoil.storage.admin_changes import ChangePage, Stored
from counterfoil.storage.database import Pool, Tx, acquire

__all__ = ["ChangePage", "Stored", "administer", "difference_from", "find_change", "list_changes", "proposed"]

PASSWORDS_MAX: Final = 100  # each takes 20 ms of a core
MEMBERS_MAX: Final = 5_000  # nobody reads more lines than that before approving them
_NOT_YAML: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_encode = msgspec.json.Encoder(decimal_format="number").encode
_NO_SOURCES: Final = PasswordSources({}, Path(), None)

Outcome = AdminChange | Stale | Refusal


async def difference_from(
    pool: Pool,
    organisation: Organisation,
    content: Mapping[str, Any],
    *,
    resources: Collection[str] | None = None,
    keyring: Callable[[], Keyring] | None = None,
) -> Difference | Stale:
    """What a file would change, worked out without a lock; raises CannotApply with all that is wrong with it.

    `resources` are the calls that an access group may name, `keyring` seals the secrets of trusted issuers.
    """
    draft = await asyncio.to_thread(organisation_files.read, _as_yaml(content), resources)
    if draft.file is None:
        raise CannotApply(draft.problems)
    if draft.file.settings.org_id != organisation.org_id:
        raise CannotApply([Problem("organisation.id", f"is not {organisation.org_id}, the one that you administer")])
    elsewhere = _not_from_here(draft.file)
    secrets = {} if elsewhere else administration.resolve_passwords(draft, draft.file, _NO_SOURCES)
    async with acquire(pool) as connection:
        current, now = await stored.load(connection, draft.file, is_new=False)
    if current.version != organisation.version:
        return Stale(current.version)
    found = [*draft.problems, *elsewhere]
    return await administration.difference_of(draft.file, current, secrets, now, found, keyring)


def _as_yaml(content: Mapping[str, Any]) -> bytes:
    """JSON is YAML, but for characters inside of texts that YAML does not take or takes for the end of a line."""
    text = _encode(content).decode()
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def _not_from_here(file: OrganisationFile) -> list[Problem]:
    """A service never opens a file or reads a variable because somebody names it."""
    passwords = file.passwords
    found = [
        Problem(
            f"{path}.{password.word}{password.source.capitalize()}",
            f"cannot be read by the service: send {'password or passwordMd5' if is_password else password.word}",
        )
        for path, password in passwords.items()
        for is_password in (password.word == "password",)
        if password.source != "value"
    ]
    if len(file.members) > MEMBERS_MAX:
        found.append(Problem("members", f"are {len(file.members)}, over {MEMBERS_MAX}: propose them in several files"))
    if len(passwords) > PASSWORDS_MAX:
        found.append(Problem("", f"has {len(passwords)} passwords, over {PASSWORDS_MAX}: propose it in parts"))
    return found


def proposed(command: Propose, now: datetime) -> AdminChange:
    """The change that a proposal would become."""
    return admin_changes.proposed(command, now)[0]


async def find_change(pool: Pool, org_id: int, request_id: UUID) -> Stored | None:
    """One change; its `change` is None when the organisation has no such one."""
    async with acquire(pool) as connection:
        return await admin_changes.fetch(connection, org_id, request_id)


async def list_changes(
    pool: Pool, org_id: int, *, state: str | None, after: tuple[datetime, UUID] | None, limit: int
) -> ChangePage | None:
    """A page of changes, the newest first."""
    async with acquire(pool) as connection:
        return await admin_changes.page(connection, org_id, state=state, after=after, limit=limit)


async def administer(
    tx: Tx, organisation: Organisation, commands: Sequence[Propose | DecideChange]
) -> list[AdminChange | Stale | Refusal]:
    """Propose and decide changes, one after the other: each approved one makes another organisation."""
    return [
        await _propose(tx, organisation, each) if isinstance(each, Propose) else await _decide(tx, organisation, each)
        for each in commands
    ]


async def _propose(tx: Tx, organisation: Organisation, command: Propose) -> Outcome:
    found = await admin_changes.fetch(tx, organisation.org_id, command.request_id)
    if found is None:
        raise AssertionError("the organisation of a verified caller went away (this is a bug)")
    if found.change is not None:  # committed while its connection was lost
        return found.change
    if not is_current(organisation, command.actor, found.organisation_version):
        return Stale(found.organisation_version)
    refused = dual_control.may_propose(organisation, command.actor, command.difference, found.now)
    if refused is not None:
        await _add_refused(
            tx, command.request_id, command.request_id, "submission_refused", command, refused, found.now
        )
        return refused
    if command.difference is None or command.base_version != organisation.version:
        return Stale(found.organisation_version)
    change, summary, payload = admin_changes.proposed(command, found.now)
    await admin_changes.insert(tx, organisation.org_id, command.actor.login, change, summary, payload)
    facts = {**_facts(organisation, change, command.actor), "base": change.base_version, "type": rules.ADMIN_CHANGE}
    personal = {"maker": f"{change.maker_person_id} {change.maker_user_name}", "message": change.message}
    await _append(tx, organisation, change, "submitted", change.request_id, command.salt, found.now, facts, personal)
    return change


async def _decide(tx: Tx, organisation: Organisation, command: DecideChange) -> Outcome:
    org_id = organisation.org_id
    found, is_written = await admin_changes.lock(tx, org_id, command.request_id, command.decision_id)
    change, current, now = found.change, Current(), found.now
    if is_written and change is not None:
        return change
    if not is_current(organisation, command.actor, found.organisation_version):
        return Stale(found.organisation_version)
    if change is not None and change.difference is not None:
        current, now = await stored.load(tx, rules.as_file(organisation, change.difference), is_new=False)
    result = rules.decide(organisation, current, change, command, now)
    if isinstance(result, Refusal):
        if isinstance(result, NotPermitted):
            await _add_refused(tx, command.request_id, command.decision_id, "decision_refused", command, result, now)
        return result
    await admin_changes.end(tx, organisation, result, now, ids.uuid7)
    await _append_decided(tx, organisation, command, result, now)
    return result.change


async def _append_decided(
    tx: Tx, organisation: Organisation, command: DecideChange, result: DecidedChange, now: datetime
) -> None:
    change, decision, difference = result.change, result.decision, result.difference
    facts = {**_facts(organisation, change, command.actor), "verdict": decision.verdict}
    personal = {"checker": f"{decision.person_id} {decision.user_name}", "message": decision.message}
    if result.suspended:
        personal["suspended"] = ", ".join(result.suspended)
    if difference is not None:
        facts["version"] = difference.version
        who = {
            "maker": f"{change.maker_person_id} {change.maker_user_name}",
            "checker": f"{decision.person_id} {decision.user_name}",
        }
        why = {"request": str(change.request_id)}
        applied = administration.events(organisation.org_id, difference, now, why, who)
        applied += [delegations.taken_back(organisation, each, why, now) for each in result.taken_back]
        await stored.append_events(tx, organisation.org_id, applied)
    await _append(
        tx, organisation, change, change.state, command.decision_id, command.salt, now, facts, personal
    )  # fmt: skip


def _facts(organisation: Organisation, change: AdminChange, actor: Actor) -> dict[str, Any]:
    return {
        "digest": change.digest.hex(),
        **actor.origin,
        "org": organisation.org_id,
        "state": change.state,
    }


async def _append(
    tx: Tx,
    organisation: Organisation,
    change: AdminChange,
    kind: str,
    event_id: UUID,
    salt: bytes,
    now: datetime,
    facts: Mapping[str, Any],
    personal: Mapping[str, str],
) -> None:
    event = make_event(change.request_id, event_id, kind, now, salt, facts, personal)
    await stored.append_events(tx, organisation.org_id, [event])


async def _add_refused(
    tx: Tx,
    subject_id: UUID,
    command_id: UUID,
    kind: str,
    command: Propose | DecideChange,
    refusal: Refusal,
    now: datetime,
) -> None:
    """The audit line of a refused access: all that a refused command leaves behind."""
    batch = changes.Changes()
    actor = command.actor
    batch.add_refusal(
        make_event(
            subject_id,
            UUID(int=command_id.int ^ 1),
            kind,
            now,
            command.salt,
            {"code": refusal.code, **actor.origin, "org": actor.org_id},
            {"actor": f"{actor.person_id} {actor.user_name}"},
        )
    )
    await changes.write(tx, actor.org_id, batch)
