"""The verb on delegations: each change raises the organisation's version, so it counts everywhere at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from counterfoil.application import ids
from counterfoil.application.requests import Stale, add_refused, is_current
from counterfoil.domain import delegations as rules
from counterfoil.domain.delegations import Delegate, EndDelegation
from counterfoil.domain.organisations import Delegation, Organisation
from counterfoil.domain.payloads import points_text
from counterfoil.domain.refusals import NotPermitted, Refusal
from counterfoil.domain.seals import Event, make_event
from counterfoil.storage import delegations
from counterfoil.storage.changes import Changes, write
from counterfoil.storage.database import Tx

DelegationOutcome = Delegation | Stale | Refusal


async def change_delegations(
    tx: Tx, organisation: Organisation, commands: Sequence[Delegate | EndDelegation]
) -> list[DelegationOutcome]:
    """Each command makes or ends one delegation, or changes nothing."""
    loaded = await delegations.lock_and_read(
        tx, organisation.org_id, [(*_ids(each), each.actor.person_id or "") for each in commands]
    )
    changes = Changes()
    ended: dict[UUID, Delegation] = {}
    made = 0
    outcomes: list[DelegationOutcome] = []
    for command, file in zip(commands, loaded.files, strict=True):
        if file.already_written and file.delegation is not None:
            outcomes.append(file.delegation)
        elif not is_current(organisation, command.actor, loaded.organisation_version):
            outcomes.append(Stale(loaded.organisation_version))
        else:
            now = loaded.now
            if isinstance(command, Delegate):
                result = rules.delegate(organisation, command, file.earlier + made, now)
                made += isinstance(result, Delegation)
            else:
                result = rules.end(ended.get(command.delegation_id, file.delegation), command, now)
            _add(organisation, command, result, changes, now)
            if isinstance(result, Delegation):
                ended[result.delegation_id] = result
            outcomes.append(result)
    if changes.delegations or changes.ended_delegations:
        changes.versions.append((organisation.version,))
    await write(tx, organisation.org_id, changes)
    return outcomes


def _ids(command: Delegate | EndDelegation) -> tuple[UUID, UUID]:
    """The command's own id and the delegation's."""
    if isinstance(command, Delegate):
        return command.delegation_id, command.delegation_id
    return command.end_id, command.delegation_id


def _add(
    organisation: Organisation,
    command: Delegate | EndDelegation,
    result: Delegation | Refusal,
    changes: Changes,
    now: datetime,
) -> None:
    command_id, delegation_id = _ids(command)
    actor = command.actor
    if isinstance(result, Refusal):
        if isinstance(result, NotPermitted):
            add_refused(changes, delegation_id, command_id, "delegation_refused", actor, command.salt, now, result)
        return
    if isinstance(command, Delegate):
        changes.delegations.append((
            result.delegation_id, result.delegator_id, result.delegate_id, result.unit_id, result.request_type,
            result.points_max, result.valid_from, result.valid_until, result.made_at,
        ))  # fmt: skip
    else:
        changes.ended_delegations.append((result.delegation_id, result.ended_at))
    changes.add_event(
        make_event(
            delegation_id,
            command_id,
            "delegated" if isinstance(command, Delegate) else "delegation_ended",
            now,
            command.salt,
            {**_facts(organisation, result), **actor.origin},
            {"delegator": f"{actor.person_id} {actor.user_name}", "delegate": result.delegate_id},
        )
    )


def _facts(organisation: Organisation, lent: Delegation) -> dict[str, Any]:
    return {
        "from": lent.valid_from.isoformat(),
        "org": organisation.org_id,
        "points_max": None if lent.points_max is None else points_text(lent.points_max),
        "type": lent.request_type,
        "unit": lent.unit_id,
        "until": lent.valid_until.isoformat(),
        "version": organisation.version + 1,
    }


def taken_back(organisation: Organisation, lent: Delegation, why: Mapping[str, str], now: datetime) -> Event:
    """The audit line of a delegation that ends as its delegator is suspended."""
    people = {"delegator": lent.delegator_id, "delegate": lent.delegate_id}
    facts = {**_facts(organisation, lent), **why}
    return make_event(lent.delegation_id, ids.uuid7(), "delegation_ended", now, ids.salt(), facts, people)
