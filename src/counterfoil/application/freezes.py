"""The verb on freezes: each change raises the organisation's version, so it counts everywhere at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from counterfoil.application import ids
from counterfoil.application.requests import Stale, add_refused, is_current
from counterfoil.domain import freezes as rules
from counterfoil.domain.access import Actor
from counterfoil.domain.freezes import LiftFreeze, PlaceFreeze, Scope
from counterfoil.domain.organisations import Freeze, Organisation
from counterfoil.domain.refusals import NotPermitted, Refusal
from counterfoil.domain.seals import make_event
from counterfoil.storage import freezes, organisations
from counterfoil.storage.changes import Changes, write
from counterfoil.storage.database import Tx, open_pool, transaction

FreezeOutcome = Freeze | Stale | Refusal
# Who is frozen or was for a while is nothing that a trail may tell for ever.
_PERSONAL = (Scope.MAKER, Scope.MEMBER)


async def change_freezes(
    tx: Tx, organisation: Organisation, commands: Sequence[PlaceFreeze | LiftFreeze]
) -> list[FreezeOutcome]:
    """Each command places a freeze, proposes to lift one or lifts it, or changes nothing."""
    loaded = await freezes.lock_and_read(tx, organisation.org_id, [_ids(each) for each in commands])
    changes = Changes()
    changed: dict[UUID, Freeze] = {}
    seen = organisation  # with what this batch has frozen
    outcomes: list[FreezeOutcome] = []
    for command, file in zip(commands, loaded.files, strict=True):
        if file.already_written and file.freeze is not None:
            outcomes.append(file.freeze)
            continue
        if not is_current(organisation, command.actor, loaded.organisation_version):
            outcomes.append(Stale(loaded.organisation_version))
            continue
        if isinstance(command, PlaceFreeze):
            result = rules.place(seen, command, loaded.now)
        else:
            result = rules.lift(seen, changed.get(command.freeze_id, file.freeze), command, loaded.now)
        _add(organisation, command, result, changes, loaded.now)
        if isinstance(result, Freeze):
            changed[result.freeze_id] = result
            seen = replace(seen, freezes=_with(seen.freezes, result))
        outcomes.append(result)
    changes.changed_freezes = [
        (
            each.freeze_id, each.lift_proposed_by, each.lift_proposed_name, each.lift_proposed_at, each.lifted_by,
            each.lifted_name, each.lifted_at,
        )
        for each in changed.values() if each.lift_proposed_by is not None
    ]  # fmt: skip
    if changed:
        changes.versions.append((organisation.version,))
    await write(tx, organisation.org_id, changes)
    return outcomes


def _ids(command: PlaceFreeze | LiftFreeze) -> tuple[UUID, UUID]:
    """The command's own id and the freeze's."""
    return (command.freeze_id if isinstance(command, PlaceFreeze) else command.lift_id), command.freeze_id


def _with(known: Sequence[Freeze], changed: Freeze) -> tuple[Freeze, ...]:
    others = (each for each in known if each.freeze_id != changed.freeze_id)
    return (*others, changed) if changed.lifted_at is None else tuple(others)


def _add(
    organisation: Organisation,
    command: PlaceFreeze | LiftFreeze,
    result: Freeze | Refusal,
    changes: Changes,
    now: datetime,
) -> None:
    command_id, freeze_id = _ids(command)
    actor = command.actor
    if isinstance(result, Refusal):
        if isinstance(result, NotPermitted):
            add_refused(changes, freeze_id, command_id, "freeze_refused", actor, command.salt, now, result)
        return
    kind = "frozen" if isinstance(command, PlaceFreeze) else "unfrozen" if result.lifted_at else "unfreezing_proposed"
    facts = {
        **actor.origin,
        "operator": isinstance(command, PlaceFreeze) and command.is_operator,
        "org": organisation.org_id,
        "scope": result.scope,
        "version": organisation.version + 1,
    }
    personal = {"actor": f"{actor.person_id or 'operator'} {actor.user_name}"}
    if isinstance(command, PlaceFreeze):
        personal["reason"] = result.reason
        changes.freezes.append((
            result.freeze_id, result.scope, result.target, result.reason, result.placed_by, result.placed_name,
            result.placed_at,
        ))  # fmt: skip
    if result.scope in _PERSONAL:
        personal["target"] = result.target
    else:
        facts["target"] = result.target
    changes.add_event(make_event(freeze_id, command_id, kind, now, command.salt, facts, personal))


async def freeze_as_operator(
    url: str, org_id: int, scope: Scope, target: str, reason: str, operator: str
) -> Freeze | Refusal | None:
    """Freeze on the database itself, audited as the operator's; None for an unknown organisation.

    There is no such way to lift one: that takes two people.
    """
    pool = await open_pool(url, size=1, statement_cache=0)
    try:
        while True:
            async with transaction(pool, lock_timeout_ms=5000) as tx:
                organisation = await organisations.find_organisation(tx, org_id)
                if organisation is None:
                    return None
                actor = Actor(org_id, organisation.version, "", frozenset(), None, 0, operator, has_user=False)
                command = PlaceFreeze(ids.uuid7(), actor, scope, target, reason, ids.salt(), is_operator=True)
                [outcome] = await change_freezes(tx, organisation, [command])
            if not isinstance(outcome, Stale):
                return outcome
    finally:
        await pool.close()
