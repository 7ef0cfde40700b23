"""The verbs on points that are asked for directly, each over a list of commands in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from counterfoil.application.requests import Ledger, Stale, is_current
from counterfoil.domain import freezes
from counterfoil.domain import redemptions as rules
from counterfoil.domain.intouch_answers import Outcome
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import points_text
from counterfoil.domain.points import MemberAccount
from counterfoil.domain.redemptions import Redeem
from counterfoil.domain.refusals import Refusal
from counterfoil.domain.seals import make_event
from counterfoil.storage import members
from counterfoil.storage.changes import Changes, write
from counterfoil.storage.database import Tx

RedeemOutcome = Outcome | Stale | Refusal


async def redeem_points(tx: Tx, organisation: Organisation, commands: Sequence[Redeem]) -> list[RedeemOutcome]:
    """Each command redeems at once or changes nothing."""
    loaded = await members.lock_for_redemption(tx, organisation.org_id, commands)
    changes = Changes()
    ledger = Ledger(organisation, loaded.now, changes)
    references: set[str] = set()
    used: dict[str, int] = {}
    outcomes: list[RedeemOutcome] = []
    for command, file in zip(commands, loaded.files, strict=True):
        current = is_current(organisation, command.actor, loaded.organisation_version)
        if file.written is not None:
            outcomes.append(rules.replayed(organisation, command, file.account, file.written))
        elif not current:
            outcomes.append(Stale(loaded.organisation_version))
        else:
            outcomes.append(_redeem_one(organisation, command, file, ledger, references, used))
    today = rules.day_of(organisation, loaded.now)
    changes.direct_uses.extend((login, today, points) for login, points in used.items())
    ledger.finish()
    await write(tx, organisation.org_id, changes)
    return outcomes


def _redeem_one(
    organisation: Organisation,
    command: Redeem,
    file: members.RedemptionFile,
    ledger: Ledger,
    references: set[str],
    used: dict[str, int],
) -> RedeemOutcome:
    login, used_today = command.actor.login, None
    if file.counted is not None:
        day, counted = file.counted
        used_today = used.get(login, counted if day == rules.day_of(organisation, ledger.now) else 0)
    refused = rules.may_redeem_directly(organisation, command.actor, command.asked.points, used_today)
    if refused is not None:
        return refused
    account = ledger.account(file.account)
    frozen = _frozen(organisation, command, account)
    if frozen is not None:
        return frozen
    reference = command.asked.external_reference
    result = rules.redeem(
        organisation,
        command,
        account,
        reference_used=file.reference_used or reference in references,
        redemption_id=file.redemption_id,
        now=ledger.now,
    )
    if result.change is None or result.outcome.redemption_id is None:
        return result.outcome
    if used_today is not None:
        used[login] = used_today + command.asked.points
    if reference is not None:
        references.add(reference)
    ledger.move(result.change.account, result.change.journals, result.change.holds, command.redeem_id)
    ledger.changes.redemptions.append((
        result.outcome.redemption_id, result.change.account.member_id, None, command.asked.points, reference,
        command.asked.transaction_number, command.asked.notes, command.actor.login, ledger.now,
    ))  # fmt: skip
    ledger.changes.add_event(
        make_event(
            command.redeem_id,
            command.redeem_id,
            "redeemed_directly",
            ledger.now,
            command.salt,
            {
                **command.actor.origin,
                "org": organisation.org_id,
                "points": points_text(command.asked.points),
                "redemption": result.outcome.redemption_id,
            },
            {"member": command.asked.identifier_value, "actor": command.actor.user_name},
        )
    )
    return result.outcome


def _frozen(organisation: Organisation, command: Redeem, account: MemberAccount | None) -> Refusal | None:
    credential = organisation.credentials.get(command.actor.login)
    return freezes.stopped_by(
        organisation,
        unit_id=None if credential is None else credential.unit_id,
        request_type="POINTS-REDEMPTION",
        host_id=None,
        maker_person_id=command.actor.person_id,
        member_id=None if account is None else account.member_id,
    )
