"""The verbs that end requests without a verdict: withdrawn by their makers, expired by time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from counterfoil.application import counting, ids
from counterfoil.application.organisations import Organisations
from counterfoil.application.requests import Ledger, Stale, add_refused, is_current
from counterfoil.domain import endings as rules
from counterfoil.domain.endings import Ended, Withdraw
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.points import Hold
from counterfoil.domain.refusals import Busy, NotPermitted, Refusal
from counterfoil.domain.requests import Request
from counterfoil.domain.seals import make_event
from counterfoil.storage import organisations, requests, restores
from counterfoil.storage.changes import Changes, write
from counterfoil.storage.database import BLOCKED, CLASH, LOST, Pool, Tx, acquire, transaction
from counterfoil.storage.requests import DecisionFile

WithdrawOutcome = Request | Stale | Refusal


async def withdraw_requests(tx: Tx, organisation: Organisation, commands: Sequence[Withdraw]) -> list[WithdrawOutcome]:
    """Each command ends its maker's own pending request and gives back what it held, or changes nothing."""
    book = await counting.lock_for_ending(tx, organisation, [each.request_id for each in commands])
    loaded = await requests.lock_for_ending(
        tx, organisation.org_id, [(each.withdrawal_id, each.request_id) for each in commands]
    )
    changes = Changes()
    ledger = Ledger(organisation, loaded.now, changes)
    ended: dict[UUID, Request] = {}
    outcomes: list[WithdrawOutcome] = []
    for command, file in zip(commands, loaded.files, strict=True):
        if file.already_written and file.request is not None:
            outcomes.append(file.request)
        elif not is_current(organisation, command.actor, loaded.organisation_version):
            outcomes.append(Stale(loaded.organisation_version))
        else:
            outcomes.append(_withdraw_one(organisation, command, file, ledger, ended))
    for request_id in ended:
        book.release(request_id)
    ledger.finish()
    changes.add_counted(book)
    await write(tx, organisation.org_id, changes)
    return outcomes


def _withdraw_one(
    organisation: Organisation, command: Withdraw, file: DecisionFile, ledger: Ledger, ended: dict[UUID, Request]
) -> Request | Refusal:
    account = ledger.account(file.account)
    request = ended.get(command.request_id, file.request)
    result = rules.withdraw(organisation, request, command, account, _open_hold(file, ledger), ledger.now)
    if isinstance(result, Refusal):
        if isinstance(result, NotPermitted):
            add_refused(ledger.changes, command.request_id, command.withdrawal_id, "withdrawal_refused",
                        command.actor, command.salt, ledger.now, result)  # fmt: skip
        return result
    request = ended[command.request_id] = result.request
    _write_ended(result, ledger, command.withdrawal_id)
    actor = command.actor
    ledger.changes.add_event(
        make_event(
            request.request_id,
            command.withdrawal_id,
            request.state,
            ledger.now,
            command.salt,
            {"digest": request.digest.hex(), **actor.origin, "org": organisation.org_id, "state": request.state},
            {"maker": f"{actor.person_id} {actor.user_name}", "message": command.message},
        )
    )
    return request


def _open_hold(file: DecisionFile, ledger: Ledger) -> Hold | None:
    """What the request still holds; loading the account may just have ended it."""
    if file.hold is None or file.hold.state != "open" or file.hold.request_id in ledger.closed_holds:
        return None
    return file.hold


def _write_ended(result: Ended, ledger: Ledger, first_id: UUID) -> None:
    ledger.move(result.account, result.journals, result.holds, first_id)
    ledger.changes.change_request(result.request)


async def expire_requests(tx: Tx, organisation: Organisation, count_max: int) -> int | Stale:
    """End pending requests whose time is over, and tell how many were found; waits for no other transaction."""
    claimed = await requests.claim_overdue(tx, organisation.org_id, count_max)
    if not claimed:
        return 0
    named = [(ids.uuid7(), request_id) for request_id in claimed]
    book = await counting.lock_for_ending(tx, organisation, claimed)
    loaded = await requests.lock_for_ending(tx, organisation.org_id, named)
    if loaded.organisation_version != organisation.version:
        return Stale(loaded.organisation_version)
    changes = Changes()
    ledger = Ledger(organisation, loaded.now, changes)
    for (event_id, _), file in zip(named, loaded.files, strict=True):
        account = ledger.account(file.account)
        if file.request is None:
            continue
        result = rules.expire(organisation, file.request, account, _open_hold(file, ledger), ledger.now)
        if result is None:
            continue
        _write_ended(result, ledger, event_id)
        request = result.request
        book.release(request.request_id)
        facts = {"digest": request.digest.hex(), "org": organisation.org_id, "state": request.state}
        if request.expires_at is not None:
            facts["expired"] = request.expires_at.isoformat()
        changes.add_event(make_event(request.request_id, event_id, request.state, ledger.now, ids.salt(), facts, {}))
    ledger.finish()
    changes.add_counted(book)
    await write(tx, organisation.org_id, changes)
    return len(claimed)


async def sweep(
    pool: Pool,
    known: Organisations,
    *,
    batch_max: int,
    lock_timeout_ms: int,
    fault: Callable[[BaseException], None],
) -> None:
    """Expire what is due everywhere, one bounded batch of each organisation after the other, until nothing is due.

    Any number of workers may do this at once: they share the work, and a failure hurts one organisation only.
    """
    try:
        async with acquire(pool) as connection:
            if await restores.why_paused(connection) is not None:
                return  # what the restore has lost may have been decided in time
            waiting = await organisations.list_organisations(connection)
    except Busy:
        return
    while waiting:
        again: list[int] = []
        for org_id in waiting:
            try:
                if await _sweep_one(pool, known, org_id, batch_max, lock_timeout_ms):
                    again.append(org_id)
            except (*BLOCKED, *CLASH):
                continue  # somebody is at work there: the next sweep comes soon
            except (Busy, *LOST):
                return  # the database is away
            except Exception as error:  # noqa: BLE001 - one organisation's trouble is not another's
                fault(error)
        waiting = again


async def _sweep_one(pool: Pool, known: Organisations, org_id: int, batch_max: int, lock_timeout_ms: int) -> bool:
    """One batch of one organisation; whether there may be more."""
    async with acquire(pool) as connection:
        if not await requests.has_overdue(connection, org_id):
            return False
    async with transaction(pool, lock_timeout_ms=lock_timeout_ms) as tx:
        organisation = await known.current_within(tx, org_id)
        found = 0 if organisation is None else await expire_requests(tx, organisation, batch_max)
    if isinstance(found, Stale):
        known.forget(org_id, found.organisation_version)
        return True
    return found == batch_max
