"""Races on real connections: several workers, each with a pool and queues of its own, on one database."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest
from msgspec.structs import replace

from counterfoil.application import ids, points, requests
from counterfoil.application.requests import KeyConflict, Replayed, Stale
from counterfoil.domain.access import Right
from counterfoil.domain.intouch_answers import Outcome
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import AlreadyCompleted, Busy, NotPermitted
from counterfoil.domain.requests import Decide, Request, State
from counterfoil.storage.database import transaction
from tests import invariants
from tests.builders import (
    CHECKER,
    OTHER_CHECKER,
    Lot,
    actor_of,
    connect,
    decide_command,
    redeem_command,
    seed_member,
    seed_organisation,
    submit_command,
)
from tests.workers import Worker, some_workers

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
MOBILES = [f"9100000000{number:02}" for number in range(4)]


@dataclass
class House:
    """The demo organisation, three workers, and one connection to look."""

    connection: Connection
    organisation: Organisation
    workers: list[Worker]

    def shared_out(self, commands: Iterable[Any], verb: str) -> list[Any]:
        """Calls of the verb, one after the other to each worker."""
        return [
            getattr(self.workers[number % len(self.workers)], verb)(command) for number, command in enumerate(commands)
        ]

    async def submitted(self, count: int, **changes: Any) -> list[Request]:
        commands = [submit_command(self.organisation, **changes) for _ in range(count)]
        made: list[Request] = []
        for outcome in await asyncio.gather(*self.shared_out(commands, "submit")):
            assert isinstance(outcome, Request), outcome
            made.append(outcome)
        return made


async def deadlocks(connection: Connection) -> int:
    """How many the server has broken up in this database; backends tell when they end."""
    others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    while await connection.fetch(others):  # noqa: ASYNC110 - the event is in the database
        await asyncio.sleep(0.005)
    found: int = await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return found


@asynccontextmanager
async def a_house(url: str, owned: int, *, members: int = 1, **changes: Any) -> AsyncIterator[House]:
    """Afterwards: no fault of ours, no deadlock, every invariant holds."""
    async with AsyncExitStack() as stack:
        connection = await connect(url)
        stack.push_async_callback(connection.close)
        await seed_organisation(connection, rights=[Right.MOVE_DIRECTLY], **changes)
        for number, mobile in enumerate(MOBILES[:members], start=1):
            more = [Lot(1_000 * number)] if number > 1 else []
            lots = [Lot(owned // 3), Lot(owned - owned // 3), *more]
            await seed_member(connection, lots, member_id=number, mobile=mobile)
        async with some_workers(url, 3) as workers:
            for worker in workers:
                organisation = await worker.organisation()
            yield House(connection, organisation, workers)
            for worker in workers:
                for queue in worker.queues:
                    await queue.drain()
                assert worker.seen.faults == []
                assert worker.seen.queued == 0
        await invariants.check(connection)
        assert await deadlocks(connection) == 0


def codes(outcomes: Sequence[Any]) -> Counter[int | str]:
    """Item codes of what was executed, names of everything else."""
    return Counter(
        each.outcome.code
        if isinstance(each, Request) and each.outcome
        else each.code
        if isinstance(each, Outcome)
        else type(each).__name__
        for each in outcomes
    )


async def test_fifty_approvals_of_one_request_redeem_once(database_url: str) -> None:
    async with a_house(database_url, 500_000) as house:
        (request,) = await house.submitted(1, mobile=MOBILES[0])
        voices = [
            decide_command(house.organisation, request.request_id, person_id=CHECKER if number % 2 else OTHER_CHECKER)
            for number in range(50)
        ]
        outcomes = await asyncio.gather(*house.shared_out(voices, "decide"))
        assert codes(outcomes) == {800: 1, "AlreadyCompleted": 49}
        (winner,) = (each for each in outcomes if isinstance(each, Request))
        for each in outcomes:
            if isinstance(each, AlreadyCompleted):
                assert each.code == 2002
                assert f"{winner.decisions[0].user_name} approved it" in each.message
        assert await house.connection.fetchval("SELECT count(*) FROM redemption") == 1
        assert await house.connection.fetchval("SELECT available FROM member") == 400_000


async def test_an_approval_and_a_rejection_race_to_one_end(database_url: str) -> None:
    async with a_house(database_url, 2_000_000) as house:
        made = await house.submitted(20, mobile=MOBILES[0])
        voices = [
            decide_command(house.organisation, each.request_id, verdict=verdict, person_id=person)
            for each in made
            for verdict, person in (("approved", CHECKER), ("rejected", OTHER_CHECKER))
        ]
        random.Random(7).shuffle(voices)  # noqa: S311 - the same order each time
        outcomes = await asyncio.gather(*house.shared_out(voices, "decide"))
        found = codes(outcomes)
        assert found["AlreadyCompleted"] == 20
        assert found[800] + found["Request"] == 20
        left = await house.connection.fetchval("SELECT available FROM member")
        assert left == 2_000_000 - found[800] * 100_000


async def test_a_request_is_decided_once_also_where_there_is_no_member_to_lock(database_url: str) -> None:
    async with a_house(database_url, 500_000) as house:
        for turn in range(10):
            (request,) = await house.submitted(1, mobile="919999999999")
            voices = [
                decide_command(
                    house.organisation,
                    request.request_id,
                    verdict="rejected" if (number + turn) % 3 == 0 else "approved",
                    person_id=(CHECKER, OTHER_CHECKER)[number % 2],
                )
                for number in range(12)
            ]
            found = codes(await asyncio.gather(*house.shared_out(voices, "decide")))
            assert found["AlreadyCompleted"] == 11
            assert found[816] + found["Request"] == 1


async def test_two_voices_at_once_are_both_heard_where_there_is_no_member_to_lock(database_url: str) -> None:
    async with a_house(database_url, 500_000, approvals=2) as house:
        for _ in range(15):
            (request,) = await house.submitted(1, mobile="919999999999")
            voices = [
                decide_command(house.organisation, request.request_id, person_id=person)
                for person in (CHECKER, OTHER_CHECKER)
            ]
            outcomes = await asyncio.gather(*house.shared_out(voices, "decide"))
            assert codes(outcomes) == {816: 1, "Request": 1}


async def test_batches_with_the_same_members_do_not_deadlock(database_url: str) -> None:
    """Every verb locks the members in one order, whatever they own and whoever came first."""
    async with a_house(database_url, 5_000_000, members=4) as house:
        for turn in range(12):
            made = [each for mobile in MOBILES for each in await house.submitted(1, mobile=mobile, points=1_000)]
            order = MOBILES[turn % 4 :] + MOBILES[: turn % 4]
            one, two, three = house.workers
            outcomes = await asyncio.gather(
                *(one.submit(submit_command(house.organisation, mobile=mobile, points=1_000)) for mobile in order),
                *(
                    two.redeem(redeem_command(house.organisation, mobile=mobile, points=1_000))
                    for mobile in order[::-1]
                ),
                *(three.decide(decide_command(house.organisation, each.request_id)) for each in made),
            )
            assert codes(outcomes) == {"Request": 4, 800: 8}


async def is_waiting(connection: Connection) -> None:
    """Return when somebody waits for a lock in this database."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not await connection.fetch(waiting):  # noqa: ASYNC110 - the event is in the database
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("verb", ["submit", "decide", "redeem"])
async def test_members_and_requests_are_locked_in_the_order_of_their_ids(database_url: str, verb: str) -> None:
    """While a batch waits for the first row of its order, it has none of the others."""
    async with a_house(database_url, 2_000_000, members=4) as house:
        organisation, worker = house.organisation, house.workers[0]
        await worker.redeem(redeem_command(organisation, mobile=MOBILES[2], points=1_500_000))
        made = [(await house.submitted(1, mobile=mobile))[0] for mobile in MOBILES]
        mobiles = [MOBILES[index] for index in (3, 0, 2, 1)]
        table, key = "member", "member_id"
        rows: list[Any] = [1, 2, 3, 4]
        match verb:
            case "submit":
                work: Any = [submit_command(organisation, mobile=mobile) for mobile in mobiles]
                run: Any = requests.submit_requests
            case "redeem":
                work, run = [redeem_command(organisation, mobile=mobile) for mobile in mobiles], points.redeem_points
            case _:
                table, key, rows = "request", "request_id", sorted(each.request_id for each in made)
                work = [decide_command(organisation, made[index].request_id) for index in (3, 0, 2, 1)]
                run = requests.decide_requests

        async def batch() -> Sequence[Any]:
            async with transaction(worker.pool, lock_timeout_ms=5000) as tx:
                outcomes: Sequence[Any] = await run(tx, organisation, work)
                return outcomes

        async with house.connection.transaction():
            lock = f"SELECT 1 FROM {table} WHERE {key} = $1 FOR UPDATE NOWAIT"  # noqa: S608
            await house.connection.execute(lock, rows[0])
            task = asyncio.create_task(batch())
            await is_waiting(house.connection)
            for row in rows[1:]:
                await house.connection.execute(lock, row)
        assert all(isinstance(each, Request | Outcome) for each in await task)


async def test_references_are_taken_in_their_order(database_url: str) -> None:
    """While a batch waits for another's claim to its first reference, it has claimed none of the others."""
    async with a_house(database_url, 2_000_000, members=3) as house:
        organisation, worker = house.organisation, house.workers[0]
        commands = [
            redeem_command(organisation, mobile=mobile, reference=reference)
            for mobile, reference in zip(MOBILES, ("C", "A", "B"), strict=False)
        ]

        async def batch() -> Sequence[Any]:
            async with transaction(worker.pool, lock_timeout_ms=5000) as tx:
                return await points.redeem_points(tx, organisation, commands)

        claim = "INSERT INTO redemption VALUES (51250, $1, 9, NULL, 1, $2, '', '', 'ind.1', now())"
        other = house.connection.transaction()
        await other.start()
        await house.connection.execute("SET LOCAL lock_timeout = '500ms'")
        await house.connection.execute(claim, "AAAAAA", "A")
        task = asyncio.create_task(batch())
        await is_waiting(house.connection)
        await house.connection.execute(claim, "BBBBBB", "B")
        await house.connection.execute(claim, "CCCCCC", "C")
        await other.rollback()
        assert codes(await task) == {800: 3}


async def test_fifty_makers_share_points_for_seven(database_url: str) -> None:
    async with a_house(database_url, 799_999) as house:
        made = await house.submitted(50, mobile=MOBILES[0])
        assert Counter(each.flags for each in made) == {(): 7, ("unfunded",): 43}
        assert await house.connection.fetchval("SELECT count(*) FROM hold WHERE state = 'open'") == 7
        voices = [decide_command(house.organisation, each.request_id) for each in made]
        outcomes = await asyncio.gather(*house.shared_out(voices, "decide"))
        assert codes(outcomes) == {800: 7, 818: 43}
        funded = {each.request_id for each in made if not each.flags}
        assert {each.request_id for each in outcomes if each.state is State.SUCCEEDED} == funded
        row = await house.connection.fetchrow("SELECT available, held FROM member")
        assert row is not None
        assert tuple(row) == (99_999, 0)


async def test_direct_calls_and_holds_never_spend_a_point_twice(database_url: str) -> None:
    async with a_house(database_url, 1_000_000) as house:
        calls = [
            *house.shared_out((submit_command(house.organisation, mobile=MOBILES[0]) for _ in range(15)), "submit"),
            *house.shared_out((redeem_command(house.organisation, mobile=MOBILES[0]) for _ in range(15)), "redeem"),
        ]
        random.Random(3).shuffle(calls)  # noqa: S311 - the same order each time
        outcomes = await asyncio.gather(*calls)
        funded = sum(isinstance(each, Request) and not each.flags for each in outcomes)
        assert funded + codes(outcomes)[800] == 10
        row = await house.connection.fetchrow("SELECT available, held FROM member")
        assert row is not None
        assert tuple(row) == (0, funded * 100_000)


@pytest.mark.parametrize("members", [1, 4])
async def test_one_reference_is_redeemed_once_whoever_else_uses_it(database_url: str, members: int) -> None:
    async with a_house(database_url, 2_000_000, members=members) as house:
        commands = [
            submit_command(house.organisation, mobile=MOBILES[number % members], reference="ACR-1")
            for number in range(12)
        ]
        made = await asyncio.gather(*house.shared_out(commands, "submit"))
        direct = [
            redeem_command(house.organisation, mobile=MOBILES[number % members], reference="ACR-1")
            for number in range(4)
        ]
        voices = [decide_command(house.organisation, each.request_id) for each in made]
        outcomes = await asyncio.gather(*house.shared_out(voices, "decide"), *house.shared_out(direct, "redeem"))
        assert codes(outcomes) == {800: 1, 744: 15}
        assert await house.connection.fetchval("SELECT sum(held)::bigint FROM member") == 0


async def test_references_in_any_order_do_not_deadlock(database_url: str) -> None:
    """Each worker has a member of its own and the same references, in another order."""
    async with a_house(database_url, 9_000_000, members=3) as house:
        order = random.Random(1)  # noqa: S311 - the same order each time
        for number in range(15):
            calls = []
            for worker, mobile in zip(house.workers, MOBILES, strict=False):
                references = [f"{number}-{index}" for index in range(30)]
                order.shuffle(references)
                calls += [
                    worker.redeem(redeem_command(house.organisation, mobile=mobile, points=1_000, reference=each))
                    for each in references
                ]
            assert codes(await asyncio.gather(*calls)) == {800: 30, 744: 60}


async def test_two_single_calls_with_one_reference_get_their_true_answers(database_url: str) -> None:
    """Neither sees the other under its locks: the unique index tells them apart, and the loser decides again."""
    async with a_house(database_url, 5_000_000, members=3) as house:
        for number in range(15):
            calls = [
                worker.redeem(redeem_command(house.organisation, mobile=mobile, points=1_000, reference=f"R{number}"))
                for worker, mobile in zip(house.workers, MOBILES, strict=False)
            ]
            assert codes(await asyncio.gather(*calls)) == {800: 1, 744: 2}
        assert sum(worker.seen.retries["clash"] for worker in house.workers) > 0


@pytest.mark.parametrize("verb", ["submit", "decide", "redeem"])
async def test_the_time_of_a_change_is_after_its_locks(database_url: str, verb: str) -> None:
    """What waited for another transaction happened after it, not when it was sent."""
    async with a_house(database_url, 2_000_000) as house:
        (request,) = await house.submitted(1, mobile=MOBILES[0])
        commands: dict[str, Any] = {
            "submit": submit_command(house.organisation, mobile=MOBILES[0]),
            "decide": decide_command(house.organisation, request.request_id),
            "redeem": redeem_command(house.organisation, mobile=MOBILES[0]),
        }
        async with house.connection.transaction():
            await house.connection.execute("SELECT 1 FROM member FOR UPDATE")
            call = asyncio.create_task(*house.shared_out([commands[verb]], verb))
            await is_waiting(house.connection)
            released_at = await house.connection.fetchval("SELECT clock_timestamp()")
        await call
        at = await house.connection.fetchval("SELECT max(at) FROM event")
        assert at >= released_at


async def test_one_key_makes_one_request(database_url: str) -> None:
    async with a_house(database_url, 2_000_000) as house:
        commands = [
            submit_command(house.organisation, mobile=MOBILES[0], idempotency_key="k", idempotency_digest=b"d")
            for _ in range(20)
        ]
        outcomes = await asyncio.gather(*house.shared_out(commands, "submit"))
        assert codes(outcomes) == {"Request": 1, "Replayed": 19}
        (made,) = (each for each in outcomes if isinstance(each, Request))
        assert {each.request_id for each in outcomes if isinstance(each, Replayed)} == {made.request_id}
        assert await house.connection.fetchval("SELECT held FROM member") == 100_000


async def test_one_key_for_two_contents_is_a_conflict_for_one_of_them(database_url: str) -> None:
    async with a_house(database_url, 2_000_000) as house:
        commands = [
            submit_command(
                house.organisation, mobile=MOBILES[0], idempotency_key="k", idempotency_digest=b"%d" % (number % 2)
            )
            for number in range(20)
        ]
        outcomes = await asyncio.gather(*house.shared_out(commands, "submit"))
        assert codes(outcomes) == {"Request": 1, "Replayed": 9, "KeyConflict": 10}
        assert len({each.request_id for each in outcomes if not isinstance(each, Stale)}) == 1
        assert any(isinstance(each, KeyConflict) for each in outcomes)


async def test_two_keys_in_opposite_orders_do_not_deadlock(database_url: str) -> None:
    async with a_house(database_url, 9_000_000, members=4) as house:
        for turn in range(10):
            keys = [f"{turn}-{number}" for number in range(8)]
            calls = []
            for worker, ordered in zip(house.workers, (keys, keys[::-1], keys[4:] + keys[:4]), strict=True):
                calls += [
                    worker.submit(
                        submit_command(
                            house.organisation, points=1_000, mobile=MOBILES[int(key[-1]) % 4], idempotency_key=key
                        )
                    )
                    for key in ordered
                ]
            assert codes(await asyncio.gather(*calls)) == {"Request": 8, "Replayed": 16}


async def test_a_revoked_checker_decides_nothing_any_more(database_url: str) -> None:
    async with a_house(database_url, 5_000_000) as house:
        made = await house.submitted(30, mobile=MOBILES[0])
        voices = [decide_command(house.organisation, each.request_id) for each in made]

        async def revoke() -> None:
            async with house.connection.transaction():
                await house.connection.execute("UPDATE organisation SET version = version + 1")
                await house.connection.execute("DELETE FROM access_grant WHERE person_id = $1", CHECKER)

        early = asyncio.gather(*house.shared_out(voices[:15], "decide"))
        await revoke()
        late = await asyncio.gather(*house.shared_out(voices[15:], "decide"))
        assert {type(each) for each in late} == {Stale}
        assert {type(each) for each in await early} <= {Request, Stale}
        for worker in house.workers:
            worker.organisations.forget(51250, 2)
        fresh = await house.workers[0].organisation()
        retried = [replace(each, actor=actor_of(fresh, CHECKER)) for each in voices[15:]]
        refused = await asyncio.gather(*house.shared_out(retried, "decide"))
        assert {type(each) for each in refused} == {NotPermitted}


async def test_two_voices_of_many_checkers_execute_once(database_url: str) -> None:
    async with a_house(database_url, 2_000_000, approvals=2) as house:
        made = await house.submitted(10, mobile=MOBILES[0])
        voices = [
            decide_command(house.organisation, each.request_id, person_id=person)
            for each in made
            for person in (CHECKER, OTHER_CHECKER, CHECKER, OTHER_CHECKER)
        ]
        told = codes(await asyncio.gather(*house.shared_out(voices, "decide")))
        # A second voice comes before the last one or after it.
        assert told.pop("AlreadyCompleted", 0) + told.pop("AlreadyVoted", 0) == 20
        assert told == {800: 10, "Request": 10}


@pytest.mark.slow
async def test_a_storm_of_everything(database_url: str) -> None:
    """Four members, three workers, all verbs, shared references and keys, for a while."""
    async with a_house(database_url, 3_000_000, members=4) as house:
        storm = random.Random(11)  # noqa: S311 - the same storm each time
        open_requests: list[UUID] = []

        async def one(worker: Worker) -> Any:
            mobile, size = storm.choice(MOBILES), storm.choice([1_000, 20_000, 150_000])
            reference = storm.choice([None, f"R{storm.randrange(60)}"])
            match storm.randrange(5):
                case 0 | 1:
                    key = storm.choice([None, f"k{storm.randrange(300)}"])
                    outcome: Any = await worker.submit(
                        submit_command(
                            house.organisation, mobile=mobile, points=size, reference=reference, idempotency_key=key
                        )
                    )
                    if isinstance(outcome, Request):
                        open_requests.append(outcome.request_id)
                case 2:
                    outcome = await worker.redeem(
                        redeem_command(house.organisation, mobile=mobile, points=size, reference=reference)
                    )
                case _:
                    request_id = storm.choice(open_requests) if open_requests else ids.uuid7()
                    command: Decide = decide_command(
                        house.organisation,
                        request_id,
                        verdict=storm.choice(["approved", "approved", "rejected"]),
                        person_id=storm.choice([CHECKER, OTHER_CHECKER]),
                    )
                    outcome = await worker.decide(command)
            return outcome

        for _ in range(40):
            outcomes = await asyncio.gather(*(one(storm.choice(house.workers)) for _ in range(60)))
            assert not any(isinstance(each, Busy) for each in outcomes)
            await invariants.check(house.connection)
