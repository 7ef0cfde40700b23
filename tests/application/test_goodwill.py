"""Goodwill and status changes in batches, again after a lost connection, and against each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from counterfoil.application.requests import Replayed
from counterfoil.domain.refusals import BadGoodwillPoints, NoGoodwillExpiry
from counterfoil.domain.requests import Decide, Request, State
from tests.application import test_races
from tests.application.test_lifecycle import House, a_house
from tests.builders import (
    OTHER_CHECKER,
    Lot,
    decide_command,
    fetch_organisation,
    goodwill_command,
    seed_member,
    status_command,
    submit_command,
)


async def made(house: House, *commands: Any) -> list[Request]:
    outcomes = await house.submit(*commands)
    assert all(isinstance(each, Request) for each in outcomes), outcomes
    return outcomes


def voice(house: House, request: Request, **changes: Any) -> Decide:
    return decide_command(house.organisation, request.request_id, request_type=request.request_type, **changes)


async def labels(house: House) -> dict[int, str]:
    return dict(map(tuple, await house.connection.fetch("SELECT member_id, label FROM member_status")))


async def test_points_of_a_batch_can_be_spent_in_it(database_url: str) -> None:
    """The lot that one command awards is redeemed by the next: it is written as the batch leaves it."""
    async with a_house(database_url, [Lot(10_000)]) as house:
        organisation = house.organisation
        first, second, redemption = await made(
            house,
            goodwill_command(organisation, points=20_000),
            goodwill_command(organisation, points=5_000),
            submit_command(organisation, points=31_000),
        )
        assert redemption.flags == ("unfunded",)
        done = await house.decide(*(voice(house, each) for each in (first, second, redemption)))
        assert [each.state for each in done] == [State.SUCCEEDED] * 3
        assert await house.totals() == (4_000, 0)
        rows = await house.connection.fetch("SELECT lot_id, points, remaining FROM lot WHERE lot_id = ANY ($1)",
                                            [first.request_id, second.request_id])  # fmt: skip
        # Both end at the same time, the member's own lot never: the one of the earlier request goes first.
        assert {row["lot_id"]: (row["points"], row["remaining"]) for row in rows} == {
            first.request_id: (20_000, 0),
            second.request_id: (5_000, 0),
        }


async def test_one_reference_gives_once_in_one_batch(database_url: str) -> None:
    async with a_house(database_url) as house:
        requests = await made(house, *(goodwill_command(house.organisation, reference="R") for _ in range(3)))
        assert [each.flags for each in requests] == [(), ("duplicate",), ("duplicate",)]
        done = await house.decide(*(voice(house, each) for each in requests))
        assert [each.outcome.code for each in done] == [201, 744, 744]
        assert await house.totals() == (520_000, 0)


async def test_the_last_label_of_a_batch_stays(database_url: str) -> None:
    async with a_house(database_url, approvals=2) as house:
        first, second = await made(
            house, status_command(house.organisation, label="A"), status_command(house.organisation, label="B")
        )
        await house.decide(*(voice(house, each, person_id=OTHER_CHECKER) for each in (first, second)))
        await house.decide(voice(house, second), voice(house, first))
        assert await labels(house) == {382332518: "A"}
        (third,) = await made(house, status_command(house.organisation, label="C"))
        await house.decide(voice(house, third), voice(house, third, person_id=OTHER_CHECKER))
        assert await labels(house) == {382332518: "C"}


@pytest.mark.parametrize("make", [goodwill_command, status_command])
async def test_what_was_committed_is_found_again(database_url: str, make: Any) -> None:
    async with a_house(database_url) as house:
        command = make(house.organisation)
        await house.submit(command)
        assert await house.submit(command) == [Replayed(command.request_id)]
        decision = decide_command(house.organisation, command.request_id, request_type=command.request_type)
        first = await house.decide(decision)
        assert first[0].state is State.SUCCEEDED
        before = await house.dump()
        assert await house.decide(decision) == first
        assert await house.dump() == before


@pytest.mark.parametrize(
    ("setting", "refused"), [("goodwill_points_max = 19000", BadGoodwillPoints),
                             ("goodwill_expiry_days = NULL", NoGoodwillExpiry)],
)  # fmt: skip
async def test_what_is_no_longer_allowed_stays_pending(database_url: str, setting: str, refused: type) -> None:
    """And leaves every row as it was, the voice included."""
    async with a_house(database_url) as house:
        (request,) = await made(house, goodwill_command(house.organisation))
        await house.connection.execute(f"UPDATE programme SET {setting}")  # noqa: S608
        house.organisation = await fetch_organisation(house.connection)
        before = await house.dump()
        (outcome,) = await house.decide(voice(house, request))
        assert isinstance(outcome, refused)
        assert await house.dump() == before


async def test_goodwill_expires_but_for_what_is_held(database_url: str) -> None:
    async with a_house(database_url, [], goodwill_expiry_days=2) as house:
        (request,) = await made(house, goodwill_command(house.organisation))
        await house.decide(voice(house, request))
        await house.later(hours=47)
        assert (await house.submitted(points=5_000)).flags == ()
        await house.later(hours=1)
        (label,) = await made(house, status_command(house.organisation))
        await house.decide(voice(house, label))
        assert await house.totals() == (0, 5_000)


async def test_two_workers_give_one_reference_once(database_url: str) -> None:
    """Neither sees the other under its locks where the members differ: the unique index tells them apart."""
    async with test_races.a_house(database_url, 300_000, members=3) as house:
        for number in range(5):
            commands = [
                goodwill_command(house.organisation, member_id=1 + each % 3, reference=f"R{number}", points=1_000)
                for each in range(6)
            ]
            requests = await asyncio.gather(*house.shared_out(commands, "submit"))
            voices = [
                decide_command(house.organisation, each.request_id, request_type="GOODWILL-POINTS") for each in requests
            ]
            outcomes = await asyncio.gather(*house.shared_out(voices, "decide"))
            assert Counter(each.outcome.code for each in outcomes) == {201: 1, 744: 5}
        given = await house.connection.fetchval("SELECT sum(points)::bigint FROM goodwill")
        assert given == 5_000


async def test_goodwill_and_redemptions_of_one_member_at_once(database_url: str) -> None:
    async with test_races.a_house(database_url, 3_000) as house:
        commands = [
            goodwill_command(house.organisation, member_id=1, points=1_000)
            if number % 2
            else submit_command(house.organisation, mobile=test_races.MOBILES[0], points=1_000)
            for number in range(40)
        ]
        requests = await asyncio.gather(*house.shared_out(commands, "submit"))
        voices = [
            decide_command(house.organisation, each.request_id, request_type=each.request_type) for each in requests
        ]
        outcomes = await asyncio.gather(*house.shared_out(voices, "decide"))
        found = Counter(each.outcome.code for each in outcomes)
        assert found[201] == 20
        assert found[800] + found[818] == 20
        assert found[800] >= 3
        left = await house.connection.fetchval("SELECT available FROM member WHERE member_id = 1")
        assert left == 3_000 + 20_000 - found[800] * 1_000


async def test_members_who_enrol_later_get_their_goodwill(database_url: str) -> None:
    async with a_house(database_url, []) as house:
        (request,) = await made(house, goodwill_command(house.organisation, member_id=9))
        assert (request.flags, request.member_id) == (("member_unknown",), None)
        await seed_member(house.connection, [], member_id=9, mobile="910000000009")
        (done,) = await house.decide(voice(house, request))
        assert (done.state, done.member_id) == (State.SUCCEEDED, 9)
        assert await house.totals(9) == (20_000, 0)
        [row] = await house.connection.fetch("SELECT awarded_at, expires_at FROM lot")
        assert row["expires_at"] - row["awarded_at"] == timedelta(days=90)
