"""Lent rights under a policy: what a voice counts for is judged by whose right it uses, when it is executed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from counterfoil.application import delegations, endings, ids, inbox
from counterfoil.application.inbox import ListedPage
from counterfoil.domain.delegations import EndDelegation
from counterfoil.domain.organisations import Delegation
from counterfoil.domain.refusals import AlreadyCompleted, AlreadyVoted, CapReached, NotNeeded, NotPermitted
from counterfoil.domain.requests import Request, State
from tests.builders import actor_of, delegate_command, withdraw_command
from tests.houses import House, a_house

TWO = "\n  rules: [{name: two, require: [{group: finance}, {level: zone}]}]\n"
FINANCE = "\n  rules: [{name: one, require: [{group: finance}]}]\n"
STRANGERS = "\n  rules: [{name: far, require: [{otherStore: true}]}]\n"
CAPPED = "\n  lifeHours: 2\n  caps: [{name: day, per: maker, points: 250}, {name: all, per: day, points: 900}]\n"


async def lend(house: House, lender: str, borrower: str, **changes: Any) -> Delegation:
    lent = await house.run(
        delegations.change_delegations,
        lambda found: delegate_command(found, borrower, person_id=lender, **changes),
    )
    assert isinstance(lent, Delegation), lent
    return lent


async def end(house: House, lent: Delegation) -> None:
    ended = await house.run(
        delegations.change_delegations,
        lambda found: EndDelegation(ids.uuid7(), actor_of(found, lent.delegator_id), lent.delegation_id, ids.salt()),
    )
    assert isinstance(ended, Delegation), ended


async def test_a_need_that_only_the_lent_right_meets_is_met_by_it(database_url: str) -> None:
    """S1 may decide here on their own, but is not of the group: the voice uses up whoever lent the right."""
    async with a_house(database_url, TWO) as house:
        request = await house.submit()
        assert isinstance(await house.decide(request, "S1"), NotNeeded)
        await lend(house, "F1", "S1")
        waiting = await house.decide(request, "S1")
        assert waiting.state is State.PENDING
        assert [(each.person_id, each.on_behalf_of) for each in waiting.decisions] == [("S1", "F1")]
        assert isinstance(await house.decide(request, "F1"), AlreadyCompleted)
        done = await house.decide(request, "F2")  # of the whole organisation, so of the zone's level as well
        assert done.state is State.SUCCEEDED


async def test_the_own_right_named_or_first_fills_no_need_of_a_group(database_url: str) -> None:
    async with a_house(database_url, FINANCE) as house:
        request = await house.submit()
        await lend(house, "F1", "Z1")
        assert isinstance(await house.decide(request, "Z1", on_behalf_of="Z1"), NotNeeded)
        assert isinstance(await house.decide(request, "Z1", on_behalf_of="F2"), NotPermitted)
        done = await house.decide(request, "Z1", on_behalf_of="F1")
        assert done.state is State.SUCCEEDED
        assert done.decisions[0].on_behalf_of == "F1"


@pytest.mark.parametrize("how", ["ended", "left the group", "deactivated"])
async def test_a_lent_right_that_lapsed_does_not_count_at_the_final_decision(database_url: str, how: str) -> None:
    async with a_house(database_url, TWO) as house:
        request = await house.submit()
        lent = await lend(house, "F1", "S1")
        assert (await house.decide(request, "S1")).state is State.PENDING
        match how:
            case "ended":
                await end(house, lent)
            case "left the group":
                await house.apply(house.text.replace("people: [F1, F2]", "people: [F2]"))
            case _:
                await house.apply(
                    house.text.replace("{staffId: S1, name: S1,", "{staffId: S1, name: S1, active: false,")
                )
        assert (await house.decide(request, "Z1")).state is State.PENDING
        assert (await house.decide(request, "F2")).state is State.SUCCEEDED


async def test_a_voice_that_lapsed_uses_up_nobody(database_url: str) -> None:
    """The lender is back and speaks in person; what is lent again later makes no second voice of one right."""
    async with a_house(database_url, "\n  approvals: 3\n") as house:
        request = await house.submit()
        lent = await lend(house, "F1", "M2")
        assert (await house.decide(request, "M2")).state is State.PENDING
        assert isinstance(await house.decide(request, "F1"), AlreadyVoted)
        await end(house, lent)
        assert (await house.decide(request, "F2")).state is State.PENDING
        assert len((await house.decide(request, "F1")).decisions) == 3
        await lend(house, "F1", "M2")
        await lend(house, "F2", "Z1")
        assert isinstance(await house.decide(request, "M2"), AlreadyVoted)
        assert (await house.decide(request, "Z1")).state is State.SUCCEEDED


async def test_a_right_whose_voice_lapsed_is_lent_to_another_and_may_be_used_to_reject(database_url: str) -> None:
    async with a_house(database_url, TWO) as house:
        first, second = await house.submit(), await house.submit(50_000)
        lent = await lend(house, "F1", "S1")
        for request in (first, second):
            assert (await house.decide(request, "S1")).state is State.PENDING
        await end(house, lent)
        assert (await house.decide(second, "S1", "rejected")).state is State.REJECTED
        await lend(house, "F1", "S2")
        again = await house.decide(first, "S2")
        assert [(each.person_id, each.on_behalf_of) for each in again.decisions] == [("S1", "F1"), ("S2", "F1")]
        assert (await house.decide(first, "Z1")).state is State.SUCCEEDED


async def test_a_lapsed_voice_stays_in_the_inbox_of_who_can_still_speak(database_url: str) -> None:
    async with a_house(database_url, "\n  approvals: 3\n") as house:
        request = await house.submit()

        async def inbox_of(person: str) -> list[UUID]:
            found = await house.organisation()
            page = await inbox.list_inbox(
                house.workers[0].pool, found, actor_of(found, person), after=None, limit=5, now=datetime.now(UTC)
            )
            assert isinstance(page, ListedPage)
            return [each.request.request_id for each in page.rows]

        lent = await lend(house, "F1", "S1")
        await house.decide(request, "S1", on_behalf_of="F1")
        assert (await inbox_of("S1"), await inbox_of("F1")) == ([], [])
        await end(house, lent)
        assert (await inbox_of("S1"), await inbox_of("F1")) == ([request.request_id], [request.request_id])
        await house.decide(request, "S1")
        assert await inbox_of("S1") == []
        await house.apply(house.text.replace("  - {person: S1, right: CanCheckRequest, unit: 50682288}\n", ""))
        await lend(house, "F1", "S1")
        assert await inbox_of("S1") == [request.request_id]
        await house.decide(request, "S1")
        assert (await inbox_of("S1"), await inbox_of("F1")) == ([], [])


async def test_one_of_the_very_store_is_no_stranger_with_a_stranger_s_right(database_url: str) -> None:
    async with a_house(database_url, STRANGERS) as house:
        request = await house.submit()
        await lend(house, "Z1", "S1")
        assert isinstance(await house.decide(request, "S1"), NotNeeded)
        await lend(house, "Z1", "M2")
        assert (await house.decide(request, "M2")).state is State.SUCCEEDED


async def test_the_member_lends_nobody_the_right_to_decide_on_them(database_url: str) -> None:
    async with a_house(database_url, "\n  approvals: 1\n") as house:
        request = await house.submit(mobile="919988776633")  # F1 is this member
        await lend(house, "F1", "M2")
        for verdict in ("approved", "rejected"):
            assert isinstance(await house.decide(request, "M2", verdict), NotPermitted)


# ---------------------------------------------------------------- caps are given back


@pytest.mark.parametrize("how", ["withdrawn", "expired"])
async def test_what_a_cap_counts_is_given_back_once(database_url: str, how: str) -> None:
    async with a_house(database_url, CAPPED) as house:
        first, second = await house.submit(150_000), await house.submit(100_000)
        assert isinstance(await house.submit(1_000), CapReached)
        kept = await house.submit(50_000, person="M2")
        assert await house.counters() == {"day M1": 250_000, "day M2": 50_000, "all": 300_000}
        await house.decide(second, "S1")
        if how == "withdrawn":
            await withdrawn(house, first)
            assert isinstance(await withdraw(house, first), AlreadyCompleted)
            assert await house.counters() == {"day M1": 100_000, "day M2": 50_000, "all": 150_000}
            assert isinstance(await house.submit(150_000), Request)
        else:
            await house.make_older(2)
            for _ in range(2):
                await house.workers[0].sweep()
            assert await house.counters() == {"day M1": 100_000, "all": 100_000}
            assert isinstance(await house.decide(kept, "S1"), AlreadyCompleted)
            assert isinstance(await house.submit(150_000), Request)
        assert isinstance(await house.submit(1_000), CapReached)


async def withdraw(house: House, request: Request) -> Any:
    return await house.run(
        endings.withdraw_requests, lambda found: withdraw_command(found, request.request_id, person_id="M1")
    )


async def withdrawn(house: House, request: Request) -> None:
    assert (await withdraw(house, request)).state is State.WITHDRAWN
