"""Many commands, one transaction: a constant number of round trips, and nobody pays for a neighbour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg
import pytest
from msgspec.structs import replace

from counterfoil.application import ids
from counterfoil.application.group_commit import Limits
from counterfoil.application.requests import Replayed
from counterfoil.domain.access import Right
from counterfoil.domain.intouch_answers import Outcome
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import Busy, OurFault, SelfApproval
from counterfoil.domain.requests import Request, State
from tests import invariants
from tests.builders import (
    MAKER,
    Lot,
    connect,
    decide_command,
    fetch_organisation,
    redeem_command,
    seed_member,
    seed_organisation,
    submit_command,
)
from tests.proxies import Proxy, a_proxy
from tests.workers import Worker, a_worker

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
HOT = 1
MOBILES = [f"9100000000{number:02}" for number in range(8)]


@dataclass
class House:
    """The demo organisation with eight members of 1000 points each, and one worker."""

    url: str
    connection: Connection
    organisation: Organisation
    worker: Worker

    async def gathered(self, *work: Any) -> list[Any]:
        """The outcomes of calls that find the queue in use: all of them go in the next batch together."""
        async with AsyncExitStack() as stack:
            for _ in range(self.worker.pool.get_max_size()):
                await stack.enter_async_context(self.worker.pool.acquire())
            first = asyncio.create_task(self.worker.submit(submit_command(self.organisation, points=1_000)))
            await asyncio.sleep(0)
            tasks = [asyncio.create_task(each) for each in work]
            await asyncio.sleep(0.01)
        outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert isinstance(outcomes[0], Request)
        return outcomes[1:]

    async def count(self, table: str) -> int:
        found: int = await self.connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
        return found


@asynccontextmanager
async def a_house(url: str, *, through: str | None = None, **limits: float) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        connection = await connect(url)
        stack.push_async_callback(connection.close)
        await seed_organisation(connection, rights=[Right.MOVE_DIRECTLY])
        await seed_member(connection, [Lot(1_000_000)], member_id=999)
        for number, mobile in enumerate(MOBILES, start=1):
            await seed_member(connection, [Lot(1_000_000)], member_id=number, mobile=mobile)
        worker = await stack.enter_async_context(
            a_worker(through or url, pool_size=2, limits=Limits(**limits))  # type: ignore[arg-type]
        )
        yield House(url, connection, await worker.organisation(), worker)
        await worker.decisions.drain()
        await invariants.check(connection)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with a_house(database_url) as found:
        yield found


# ---------------------------------------------------------------- round trips


async def round_trips(house: House, proxy: Proxy, commands: list[Any], verb: str) -> int:
    """How often the worker waited for the server to carry out these commands as one batch."""
    call = getattr(house.worker, verb)
    before = proxy.ready
    outcomes = await asyncio.gather(*(call(each) for each in commands))
    assert house.worker.seen.batches[-1] == len(commands)
    assert all(isinstance(each, Request | Outcome) for each in outcomes), outcomes
    return proxy.ready - before


async def measured(house: House, proxy: Proxy, size: int) -> dict[str, int]:
    """The round trips of each verb for a batch of this size."""
    reference = f"{ids.uuid7()}"
    submissions = [
        submit_command(
            house.organisation,
            points=1_000,
            mobile=MOBILES[index % 8],
            reference=f"{reference}-{index}",
            idempotency_key=f"{reference}-{index}",
        )
        for index in range(size)
    ]
    decisions = [decide_command(house.organisation, each.request_id) for each in submissions]
    direct = [redeem_command(house.organisation, points=1_000, mobile=MOBILES[index % 8]) for index in range(size)]
    return {
        verb: await round_trips(house, proxy, commands, verb)
        for verb, commands in (("submit", submissions), ("decide", decisions), ("redeem", direct))
    }


@pytest.mark.usefixtures("reads_that_never_waited")
async def test_a_batch_makes_as_many_round_trips_as_a_single_command(database_url: str) -> None:
    async with (
        a_proxy(database_url) as proxy,
        a_house(database_url, through=proxy.url, batch_max=128, in_flight_max=1) as house,
    ):
        for _ in range(3):
            await measured(house, proxy, 1)  # statements are prepared once for each connection
        alone, ten, hundred = [await measured(house, proxy, size) for size in (1, 10, 100)]
        # BEGIN with its settings, the keys, the locking read, the write, COMMIT.
        assert alone == {"submit": 5, "decide": 4, "redeem": 4}
        assert ten == alone
        assert hundred == alone


# ---------------------------------------------------------------- a poisoned neighbour


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("points", 0),
        ("points", -1_000_000),
        ("points", 2**63),
        ("external_reference", "\x00"),
        ("identifier_value", "\ud800"),
        ("request_type", "NO-SUCH-TYPE"),
        ("idempotency_key", "k" * 256),
    ],
    ids=["no points", "negative points", "too many points", "NUL", "surrogate", "type", "key"],
)
async def test_a_poisoned_command_hurts_nobody_else(house: House, field: str, value: Any) -> None:
    good = [submit_command(house.organisation, mobile=mobile, points=10_000) for mobile in MOBILES]
    bad = submit_command(house.organisation, mobile=MOBILES[0], points=10_000)
    if field in ("request_type", "idempotency_key"):
        bad = replace(bad, **{field: value})
    else:
        bad = replace(bad, asked=replace(bad.asked, **{field: value}))
    outcomes = await house.gathered(*(house.worker.submit(each) for each in [*good[:3], bad, *good[3:]]))
    assert isinstance(outcomes.pop(3), OurFault)
    assert all(isinstance(each, Request) and each.flags == () for each in outcomes), outcomes
    assert len(house.worker.seen.faults) == 1
    assert house.worker.seen.retries["lost"] == 0
    assert await house.count("request") == 9
    assert await house.count("idempotency_key") == 0


async def test_a_cancelled_caller_changes_nothing_for_the_others(house: House) -> None:
    commands = [submit_command(house.organisation, mobile=mobile) for mobile in MOBILES]
    tasks = [asyncio.create_task(house.worker.submit(each)) for each in commands]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[4].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(each, Request) for each in outcomes) == 6
    await house.worker.submissions.drain()
    assert await house.count("request") == 8
    assert house.worker.seen.queued == 0


async def test_what_was_accepted_is_answered_before_the_end(house: House) -> None:
    tasks = [
        asyncio.create_task(house.worker.submit(submit_command(house.organisation, mobile=MOBILES[number % 8])))
        for number in range(40)
    ]
    await asyncio.sleep(0)
    await house.worker.submissions.drain()
    assert all(task.done() for task in tasks)
    assert await house.count("request") == 40


# ---------------------------------------------------------------- a full queue


async def test_a_full_queue_refuses_and_consumes_nothing(database_url: str) -> None:
    async with a_house(database_url, queue_max=3) as house:
        commands = [
            submit_command(house.organisation, idempotency_key=f"k{number}", mobile=MOBILES[number])
            for number in range(5)
        ]
        outcomes = await house.gathered(*(house.worker.submit(each) for each in commands))
        assert [type(each) for each in outcomes] == [Request, Request, Request, Busy, Busy]
        assert outcomes[3].retry_after_seconds == 1
        assert await house.count("request") == 4
        assert await house.count("idempotency_key") == 3
        assert isinstance(await house.worker.submit(commands[3]), Request)


async def test_a_second_batch_goes_beside_the_first_when_it_is_big(database_url: str) -> None:
    async with a_house(database_url, in_flight_max=2, batch_max=32) as house:
        commands = [
            submit_command(house.organisation, mobile=MOBILES[number % 8], points=1_000) for number in range(40)
        ]
        outcomes = await house.gathered(*(house.worker.submit(each) for each in commands))
        assert all(isinstance(each, Request) and each.flags == () for each in outcomes)
        assert house.worker.seen.batches[0] == 1
        assert sum(house.worker.seen.batches) == 41
        assert max(house.worker.seen.batches) <= 32
        assert await house.count("hold") == 41


async def test_a_batch_has_a_largest_size(database_url: str) -> None:
    async with a_house(database_url, batch_max=3) as house:
        commands = [submit_command(house.organisation, mobile=MOBILES[number]) for number in range(8)]
        await house.gathered(*(house.worker.submit(each) for each in commands))
        assert house.worker.seen.batches == [1, 3, 3, 2]


# ---------------------------------------------------------------- a hot row


async def test_who_waits_on_a_hot_row_is_busy_alone(database_url: str) -> None:
    async with a_house(database_url, lock_timeout_ms=2000) as house:
        commands = [submit_command(house.organisation, mobile=mobile, idempotency_key=mobile) for mobile in MOBILES]
        other = await connect(database_url)
        try:
            async with other.transaction():
                await other.execute("SELECT 1 FROM member WHERE member_id = $1 FOR UPDATE", HOT)
                started = asyncio.get_running_loop().time()
                outcomes = await house.gathered(*(house.worker.submit(each) for each in commands))
                waited = asyncio.get_running_loop().time() - started
        finally:
            await other.close()
        assert isinstance(outcomes[0], Busy)
        assert all(isinstance(each, Request) for each in outcomes[1:]), outcomes
        # One whole timeout to see that something waits; to find out what takes less for each halving.
        assert waited < 7  # of eight such timeouts
        assert await house.count("idempotency_key") == 7
        assert isinstance(await house.worker.submit(commands[0]), Request)


async def test_a_hot_request_hinders_no_other_decision(database_url: str) -> None:
    async with a_house(database_url, lock_timeout_ms=2000) as house:
        made = [await house.worker.submit(submit_command(house.organisation, mobile=each)) for each in MOBILES]
        voices = [decide_command(house.organisation, each.request_id) for each in made if isinstance(each, Request)]
        other = await connect(database_url)
        try:
            async with other.transaction():
                await other.execute("SELECT 1 FROM request WHERE request_id = $1 FOR UPDATE", voices[3].request_id)
                outcomes = await asyncio.gather(*map(house.worker.decide, voices), return_exceptions=True)
        finally:
            await other.close()
        assert [type(each) for each in outcomes] == [Request] * 3 + [Busy] + [Request] * 4
        again = await house.worker.decide(voices[3])
        assert isinstance(again, Request)
        assert again.state is State.SUCCEEDED


# ---------------------------------------------------------------- lost connections


class Once:
    """Says yes to the first message that fits."""

    def __init__(self, side: str, type_: bytes, text: bytes) -> None:
        self.wanted = (side, type_, text)
        self.happened = 0

    def __call__(self, side: str, type_: bytes, body: bytes) -> bool:
        wanted_side, wanted_type, text = self.wanted
        if self.happened or (side, type_) != (wanted_side, wanted_type) or not body.startswith(text):
            return False
        self.happened += 1
        return True


CUTS = {
    "before COMMIT": Once("client", b"Q", b"COMMIT"),
    "after COMMIT": Once("server", b"C", b"COMMIT"),
    "after BEGIN": Once("server", b"C", b"BEGIN"),
    "while writing": Once("server", b"2", b""),  # BindComplete: a statement was sent, its answer is lost
}


@pytest.mark.parametrize("when", CUTS)
@pytest.mark.parametrize("verb", ["submit", "decide", "redeem", "refused"])
async def test_a_lost_connection_ends_with_one_effect_and_the_true_answer(
    database_url: str, when: str, verb: str
) -> None:
    async with a_proxy(database_url) as proxy, a_house(database_url, through=proxy.url) as house:
        made = await house.worker.submit(submit_command(house.organisation, points=10_000))
        assert isinstance(made, Request)
        cut = proxy.cut = Once(*CUTS[when].wanted)
        match verb:
            case "submit":
                command = submit_command(house.organisation, points=20_000, reference="R", idempotency_key="k")
                outcome: Any = await house.worker.submit(command)
                committed = Replayed(command.request_id)
                assert outcome == committed if when == "after COMMIT" else isinstance(outcome, Request)
                assert await house.count("request") == 2
                assert await house.count("hold") == 2
            case "decide":
                outcome = await house.worker.decide(decide_command(house.organisation, made.request_id))
                assert (outcome.state, outcome.outcome.code) == (State.SUCCEEDED, 800)
                assert await house.count("redemption") == 1
            case "redeem":
                outcome = await house.worker.redeem(redeem_command(house.organisation, points=20_000))
                assert (outcome.code, outcome.balance) == (800, 970_000)
                assert await house.count("redemption") == 1
            case _:
                outcome = await house.worker.decide(
                    decide_command(house.organisation, made.request_id, person_id=MAKER)
                )
                assert isinstance(outcome, SelfApproval)
                assert await house.count("event") == 2
        assert cut.happened == 1
        assert house.worker.seen.retries["lost"] == 1
        assert house.worker.seen.faults == []


async def test_a_backend_that_is_terminated_while_it_waits_is_replaced(house: House) -> None:
    other = await connect(house.url)
    try:
        async with other.transaction():
            await other.execute("SELECT 1 FROM member WHERE member_id = $1 FOR UPDATE", HOT)
            task = asyncio.create_task(house.worker.submit(submit_command(house.organisation, mobile=MOBILES[0])))
            terminate = """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND datname = current_database()
            """
            while not await house.connection.fetch(terminate):  # noqa: ASYNC110 - the event is in the database
                await asyncio.sleep(0.01)
        outcome = await task
    finally:
        await other.close()
    assert isinstance(outcome, Request)
    assert outcome.flags == ()
    assert await house.count("hold") == 1


async def test_all_connections_may_break_at_once(database_url: str) -> None:
    async with a_proxy(database_url) as proxy, a_house(database_url, through=proxy.url) as house:
        commands = [
            submit_command(house.organisation, mobile=MOBILES[number % 8], points=1_000) for number in range(64)
        ]
        tasks = [asyncio.create_task(house.worker.submit(each)) for each in commands]
        for _ in range(5):
            await asyncio.sleep(0.005)
            proxy.break_all()
        outcomes = await asyncio.gather(*tasks)
        assert all(isinstance(each, Request | Replayed) for each in outcomes), outcomes
        assert await house.count("request") == 64
        assert await house.count("hold") == 64


async def test_a_database_that_stays_away_is_told_to_all_at_once(database_url: str) -> None:
    async with a_proxy(database_url) as proxy, a_house(database_url, through=proxy.url, lost_seconds=0.5) as house:
        commands = [submit_command(house.organisation, mobile=mobile) for mobile in MOBILES]
        proxy.closed = True
        proxy.break_all()
        started = asyncio.get_running_loop().time()
        outcomes = await asyncio.gather(*map(house.worker.submit, commands), return_exceptions=True)
        assert [type(each) for each in outcomes] == [Busy] * 8
        assert asyncio.get_running_loop().time() - started < 3
        proxy.closed = False
        again = await asyncio.gather(*map(house.worker.submit, commands))
        assert all(isinstance(each, Request) for each in again)
        assert await house.count("request") == 8


async def test_an_idle_queue_adds_no_batching(house: House) -> None:
    for mobile in MOBILES:
        await house.worker.submit(submit_command(house.organisation, mobile=mobile))
    assert house.worker.seen.batches == [1] * 8
    assert await fetch_organisation(house.connection) == house.organisation
