"""What a policy with caps or automatic approvals needs to know beforehand: nothing, where the policy has neither."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from counterfoil.domain import rulings
from counterfoil.domain.caps import CapBook, TallyAsked
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.policies import CapSubject
from counterfoil.domain.requests import Decide, Request, Submit
from counterfoil.domain.rulings import Pairs
from counterfoil.storage import caps, requests, restores
from counterfoil.storage.database import Tx


async def lock_for_submission(tx: Tx, organisation: Organisation, commands: Sequence[Submit]) -> CapBook:
    """Lock the counters that the policy may count these requests in."""
    asked: list[TallyAsked] = []
    for each in commands:
        wanted = each.asked
        subject = {CapSubject.MEMBER: wanted.identifier_value, CapSubject.MAKER: each.actor.person_id or ""}
        asked.extend(
            TallyAsked(each.request_id, cap.name, cap.per, subject.get(cap.per, ""), wanted.identifier_kind)
            for cap in rulings.counters_wanted(
                organisation, each.actor, each.place, each.request_type, wanted.points or 0
            )
        )
    return await caps.lock_for_submission(tx, organisation.org_id, asked, organisation.time_zone)


async def lock_for_decision(tx: Tx, organisation: Organisation, commands: Sequence[Decide]) -> CapBook:
    """Lock the requests, and the counters that they and their approvals are counted in."""
    if not organisation.ever_capped:
        return CapBook()
    approvals = {(each.request_id, each.actor.person_id or "") for each in commands if each.verdict == "approved"}
    request_ids = sorted({each.request_id for each in commands})
    return await caps.lock_for_decision(tx, organisation.org_id, request_ids, sorted(approvals), organisation.time_zone)


async def lock_for_ending(tx: Tx, organisation: Organisation, request_ids: Sequence[UUID]) -> CapBook:
    """Lock requests that may end without effect, and the counters that they are counted in."""
    if not organisation.ever_capped:
        return CapBook()
    return await caps.lock_for_decision(tx, organisation.org_id, sorted(set(request_ids)), (), organisation.time_zone)


async def read_pairs(tx: Tx, organisation: Organisation, found: Sequence[Request], checkers: Sequence[str]) -> Pairs:
    """The counters of maker and checker together that approvals of these requests would be counted in, unlocked."""
    capped = [each for each in found if each.requirement.pair_caps]
    names = sorted({cap.name for each in capped for cap in each.requirement.pair_caps})
    makers = {each.maker_person_id for each in capped}
    subjects = sorted(rulings.pair_subject(maker, checker) for maker in makers for checker in checkers)
    if not names or not subjects:
        return rulings.NO_PAIRS
    return await caps.read_pairs(tx, organisation.org_id, names, subjects, organisation.time_zone)


async def read_for_execution(
    tx: Tx, organisation: Organisation, commands: Sequence[Submit]
) -> dict[UUID, tuple[bool, str]]:
    """For each request that a rule may approve by itself: whether its reference is used, and a free redemption id.

    Nothing is approved by itself while a restored database is paused (design.md §7).
    """
    asked = [
        (each.request_id, each.request_type, each.asked.external_reference, *each.redemption_ids)
        for each in commands
        if each.redemption_ids
    ]
    if not asked or await restores.why_paused(tx) is not None:
        return {}
    return await requests.read_for_execution(tx, organisation.org_id, asked)
