"""The life of a request under races on real connections, lost connections, and a constant number of round trips."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import pytest

from counterfoil.application import comments, delegations, endings, freezes, ids, requests
from counterfoil.application.requests import Replayed, Stale
from counterfoil.domain.access import Right
from counterfoil.domain.delegations import EndDelegation
from counterfoil.domain.freezes import Scope
from counterfoil.domain.organisations import Delegation, Freeze, Organisation
from counterfoil.domain.refusals import AlreadyCompleted, Frozen, NotPermitted, Refusal
from counterfoil.domain.requests import Request, State
from counterfoil.storage.database import transaction
from tests import invariants
from tests.builders import (
    CHECKER,
    MAKER,
    OTHER_CHECKER,
    Lot,
    comment_command,
    connect,
    decide_command,
    delegate_command,
    fetch_organisation,
    freeze_command,
    lift_command,
    policy_document,
    seed_member,
    seed_organisation,
    submit_command,
    withdraw_command,
)
from tests.proxies import Proxy, a_proxy
from tests.workers import Worker, a_worker, some_workers

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
T = TypeVar("T")
DEACTIVATE = "UPDATE person SET active = false WHERE person_id = $1"
REVOKE = "DELETE FROM access_grant WHERE person_id = $1 AND access_right = $2"
GRANT_CHECKING = """INSERT INTO access_grant (org_id, grant_id, person_id, access_right)
    VALUES (51250, gen_random_uuid(), $1, 'CanCheckRequest')"""


@dataclass
class House:
    """The demo organisation with one member, some workers, and one connection to look and to change."""

    connection: Connection
    workers: list[Worker]

    async def run(self, number: int, verb: str, make: Callable[[Organisation], Any]) -> Any:
        """One call as the edge makes it: a stale snapshot is dropped, and the call prepared again."""
        worker = self.workers[number % len(self.workers)]
        while True:
            outcome = await getattr(worker, verb)(make(await worker.organisation()))
            if not isinstance(outcome, Stale):
                return outcome
            worker.organisations.forget(51250, outcome.organisation_version)

    async def submitted(self, count: int = 1, **changes: Any) -> list[Request]:
        calls = (self.run(0, "submit", lambda found: submit_command(found, **changes)) for _ in range(count))
        made = await asyncio.gather(*calls)
        assert all(isinstance(each, Request) for each in made), made
        return made

    async def decide(self, number: int, request_id: UUID, person_id: str = CHECKER, **changes: Any) -> Any:
        return await self.run(
            number, "decide", lambda found: decide_command(found, request_id, person_id=person_id, **changes)
        )

    async def withdraw(self, number: int, request_id: UUID) -> Any:
        return await self.run(number, "withdraw", lambda found: withdraw_command(found, request_id))

    async def administer(self, statement: str, *arguments: object) -> None:
        """A change of the organisation on another process."""
        async with self.connection.transaction():
            await self.connection.execute("UPDATE organisation SET version = version + 1")
            await self.connection.execute(statement, *arguments)

    async def ends_in(self, request_id: UUID, milliseconds: int) -> None:
        """The database's clock cannot be set, so the end comes nearer to it."""
        async with self.connection.transaction():
            await self.connection.execute("SET LOCAL session_replication_role = replica")
            for table in ("request", "hold"):
                await self.connection.execute(
                    f"UPDATE {table} SET expires_at = clock_timestamp() + $2 WHERE request_id = $1",  # noqa: S608
                    request_id,
                    timedelta(milliseconds=milliseconds),
                )


@asynccontextmanager
async def a_house(url: str, *, points: int = 5_000_000, workers: int = 3, **changes: Any) -> AsyncIterator[House]:
    """Afterwards: no fault of ours, and every invariant holds."""
    async with AsyncExitStack() as stack:
        connection = await connect(url)
        stack.push_async_callback(connection.close)
        await seed_organisation(connection, **changes)
        await seed_member(connection, [Lot(points)])
        for person in (CHECKER, OTHER_CHECKER):
            await connection.execute(
                "INSERT INTO access_grant (org_id, grant_id, person_id, access_right) "
                "VALUES (51250, $1, $2, 'CanFreeze')", ids.uuid7(), person,
            )  # fmt: skip
        await connection.execute("INSERT INTO person VALUES (51250, 'E-third', 'E-third', true)")
        await connection.execute(
            "INSERT INTO app_user (org_id, user_id, user_name, person_id) VALUES (51250, 4, 'third', 'E-third')"
        )
        opened = await stack.enter_async_context(some_workers(url, workers))
        yield House(connection, opened)
        for worker in opened:
            for queue in worker.queues:
                await queue.drain()
            assert worker.seen.faults == []
        await invariants.check(connection)


def kinds(outcomes: list[Any]) -> Counter[str]:
    return Counter(each.state.value if isinstance(each, Request) else type(each).__name__ for each in outcomes)


# ---------------------------------------------------------------- two ends of one request


async def test_approve_against_withdraw(database_url: str) -> None:
    async with a_house(database_url) as house:
        made = await house.submitted(20)
        calls = [house.decide(number, each.request_id) for number, each in enumerate(made)]
        calls += [house.withdraw(number + 1, each.request_id) for number, each in enumerate(made)]
        random.Random(5).shuffle(calls)  # noqa: S311 - the same order each time
        found = kinds(await asyncio.gather(*calls))
        assert found["AlreadyCompleted"] == 20
        assert found["succeeded"] + found["withdrawn"] == 20
        left = await house.connection.fetchval("SELECT available FROM member")
        assert left == 5_000_000 - found["succeeded"] * 100_000


async def test_approve_against_expiry(database_url: str) -> None:
    """Whoever is first: a decision is never later than the end, whenever the sweep comes."""
    async with a_house(database_url, life_hours=1) as house:
        made = await house.submitted(30)
        chance = random.Random(9)  # noqa: S311 - the same each time
        for each in made:
            await house.ends_in(each.request_id, chance.randrange(120))

        async def approve(number: int, request_id: UUID) -> Any:
            await asyncio.sleep(chance.random() / 8)
            return await house.decide(number, request_id)

        async def sweep(worker: Worker) -> None:
            for _ in range(12):
                await worker.sweep()
                await asyncio.sleep(0.02)

        calls = [approve(number, each.request_id) for number, each in enumerate(made)]
        outcomes, *_ = await asyncio.gather(asyncio.gather(*calls), *map(sweep, house.workers))
        await house.workers[0].sweep()
        found = kinds(outcomes)
        assert found["succeeded"] + found["AlreadyCompleted"] == 30
        rows = await house.connection.fetch("SELECT state FROM request")
        assert Counter(row["state"] for row in rows) == Counter(
            {"succeeded": found["succeeded"], "expired": found["AlreadyCompleted"]}
        )
        assert await house.connection.fetchval("SELECT held FROM member") == 0


async def test_the_sweeps_of_many_workers_end_each_request_once(database_url: str) -> None:
    async with a_house(database_url, life_hours=1, points=3_000_000) as house:
        made = await house.submitted(60)
        for each in made:
            await house.ends_in(each.request_id, 0)
        await asyncio.gather(*(worker.sweep() for worker in house.workers for _ in range(3)))
        await house.workers[0].sweep()  # for what one held that found no member free and committed last
        assert await house.connection.fetchval("SELECT count(*) FROM request WHERE state = 'expired'") == 60
        assert await house.connection.fetchval("SELECT count(*) FROM event WHERE kind = 'expired'") == 60


async def test_a_sweep_waits_for_nobody(database_url: str) -> None:
    async with a_house(database_url, life_hours=1) as house:
        one, other = await house.submitted(2)
        for each in (one, other):
            await house.ends_in(each.request_id, 0)
        async with house.connection.transaction():
            await house.connection.execute("SELECT 1 FROM request WHERE request_id = $1 FOR UPDATE", one.request_id)
            await asyncio.wait_for(house.workers[0].sweep(), 10)
        rows = await house.connection.fetch("SELECT request_id, state FROM request")
        assert {row["request_id"]: row["state"] for row in rows} == {
            one.request_id: "pending", other.request_id: "expired",
        }  # fmt: skip
        async with house.connection.transaction():
            await house.connection.execute("SELECT 1 FROM member FOR UPDATE")
            await asyncio.wait_for(house.workers[0].sweep(), 10)
        await house.workers[0].sweep()
        assert await house.connection.fetchval("SELECT count(*) FROM request WHERE state = 'expired'") == 2


# ---------------------------------------------------------------- approvals against administration elsewhere


async def test_approve_against_freeze(database_url: str) -> None:
    """What was decided before the freeze stays; after its answer nothing is approved on any worker."""
    async with a_house(database_url) as house:
        made = await house.submitted(40)
        early = [asyncio.create_task(house.decide(number, each.request_id)) for number, each in enumerate(made[:20])]
        freeze = await house.run(2, "freeze", freeze_command)
        assert isinstance(freeze, Freeze)
        late = await asyncio.gather(*(house.decide(number, each.request_id) for number, each in enumerate(made[20:])))
        assert kinds(late) == {"Frozen": 20}
        assert set(kinds(await asyncio.gather(*early))) <= {"succeeded", "Frozen"}
        assert isinstance(await house.run(0, "submit", submit_command), Frozen)
        rejected = await house.decide(1, made[39].request_id, verdict="rejected")
        withdrawn = await house.withdraw(2, made[38].request_id)
        assert kinds([rejected, withdrawn]) == {"rejected": 1, "withdrawn": 1}


async def test_approve_against_policy_change_on_another_process(database_url: str) -> None:
    """What was asked when a request was made stays; from the change on, each new one is asked for more."""
    async with a_house(database_url) as house:
        made = await house.submitted(30)
        early = [asyncio.create_task(house.decide(number, each.request_id)) for number, each in enumerate(made[:15])]
        meanwhile = [asyncio.create_task(house.submitted()) for _ in range(15)]
        document = json.dumps(policy_document(2, None))
        await house.administer("INSERT INTO policy (org_id, revision, document) VALUES (51250, 2, $1)", document)
        late = [house.decide(number, each.request_id) for number, each in enumerate(made[15:])]
        assert kinds(await asyncio.gather(*early, *late)) == {"succeeded": 30}
        new = [each for [each] in await asyncio.gather(*meanwhile)] + await house.submitted(5)
        assert {(each.policy_revision, each.approvals_required) for each in new} <= {(1, 1), (2, 2)}
        assert {each.approvals_required for each in new[-5:]} == {2}
        for number, each in enumerate(new):
            state = (await house.decide(number, each.request_id)).state
            assert state is (State.SUCCEEDED if each.approvals_required == 1 else State.PENDING)
            if state is State.PENDING:
                assert (await house.decide(number, each.request_id, OTHER_CHECKER)).state is State.SUCCEEDED


async def test_approve_against_deactivation_on_another_process(database_url: str) -> None:
    async with a_house(database_url) as house:
        made = await house.submitted(30)
        early = [asyncio.create_task(house.decide(number, each.request_id)) for number, each in enumerate(made[:15])]
        await house.administer(DEACTIVATE, CHECKER)
        late = await asyncio.gather(*(house.decide(number, each.request_id) for number, each in enumerate(made[15:])))
        assert kinds(late) == {"NotPermitted": 15}
        assert set(kinds(await asyncio.gather(*early))) <= {"succeeded", "NotPermitted"}


async def test_a_delegation_counts_on_every_worker_at_once_and_ends_with_its_delegator(database_url: str) -> None:
    async with a_house(database_url) as house:
        one, two, three, four, five = await house.submitted(5)
        assert isinstance(await house.decide(1, one.request_id, "E-third"), NotPermitted)
        lent = await house.run(0, "delegate", lambda found: delegate_command(found, "E-third"))
        assert isinstance(lent, Delegation)
        decided = await house.decide(1, one.request_id, "E-third")
        assert (decided.decisions[0].person_id, decided.decisions[0].on_behalf_of) == ("E-third", CHECKER)
        # What was lent is not lent on.
        refused = await house.run(1, "delegate", lambda found: delegate_command(found, MAKER, person_id="E-third"))
        assert isinstance(refused, NotPermitted)
        await house.administer(DEACTIVATE, CHECKER)
        assert isinstance(await house.decide(2, two.request_id, "E-third"), NotPermitted)
        await house.administer("UPDATE person SET active = true WHERE person_id = $1", CHECKER)
        await house.administer(REVOKE, CHECKER, Right.CHECK)
        assert isinstance(await house.decide(0, three.request_id, "E-third"), NotPermitted)
        await house.administer(GRANT_CHECKING, CHECKER)
        assert (await house.decide(1, four.request_id, "E-third")).state is State.SUCCEEDED
        ended = await house.run(
            2,
            "delegate",
            lambda found: EndDelegation(ids.uuid7(), command_actor(found), lent.delegation_id, ids.salt()),
        )
        assert ended.ended_at is not None
        assert isinstance(await house.decide(0, five.request_id, "E-third"), NotPermitted)


def command_actor(found: Organisation) -> Any:
    return delegate_command(found, MAKER).actor


async def test_delegator_and_delegate_at_once_have_one_voice(database_url: str) -> None:
    async with a_house(database_url, approvals=2) as house:
        await house.run(0, "delegate", lambda found: delegate_command(found, "E-third"))
        for turn in range(10):
            (request,) = await house.submitted()
            voices = [house.decide(turn + number, request.request_id, person) for number, person in
                      enumerate((CHECKER, "E-third", CHECKER, "E-third"))]  # fmt: skip
            assert kinds(await asyncio.gather(*voices)) == {"pending": 1, "AlreadyVoted": 3}, turn
            last = await house.decide(turn, request.request_id, OTHER_CHECKER)
            assert last.state is State.SUCCEEDED


async def test_the_maker_s_person_decides_neither_as_delegate_nor_through_one(database_url: str) -> None:
    async with a_house(database_url) as house:
        await house.administer(GRANT_CHECKING, MAKER)
        (request,) = await house.submitted()
        await house.run(0, "delegate", lambda found: delegate_command(found, MAKER))
        await house.run(0, "delegate", lambda found: delegate_command(found, "E-third", person_id=MAKER))
        for person in (MAKER, "E-third"):
            assert isinstance(await house.decide(1, request.request_id, person), NotPermitted)
        named = await house.decide(1, request.request_id, OTHER_CHECKER, on_behalf_of=MAKER)
        assert isinstance(named, NotPermitted)


async def test_a_lent_right_that_ends_takes_its_voice_along(database_url: str) -> None:
    """As a grant that was taken away does: what counts is who is entitled when the request is executed."""
    async with a_house(database_url, approvals=2) as house:
        lent = await house.run(0, "delegate", lambda found: delegate_command(found, "E-third"))
        (request,) = await house.submitted()
        await house.decide(0, request.request_id, "E-third")
        await house.run(
            2,
            "delegate",
            lambda found: EndDelegation(ids.uuid7(), command_actor(found), lent.delegation_id, ids.salt()),
        )
        assert (await house.decide(1, request.request_id, OTHER_CHECKER)).state is State.PENDING


# ---------------------------------------------------------------- lifting, resubmitting


async def test_two_people_lift_and_one_never_does(database_url: str) -> None:
    async with a_house(database_url) as house:
        for turn in range(6):
            freeze = await house.run(turn, "freeze", freeze_command)

            def lift(person: str, number: int, freeze_id: UUID = freeze.freeze_id) -> Awaitable[Any]:
                return house.run(number, "freeze", lambda found: lift_command(found, freeze_id, person_id=person))

            alone = await asyncio.gather(*(lift(CHECKER, number) for number in range(6)))
            assert Counter(type(each) for each in alone) == {Freeze: 1, NotPermitted: 5}
            both = await asyncio.gather(*(lift(OTHER_CHECKER, number) for number in range(4)), lift(CHECKER, 5))
            assert sum(isinstance(each, Freeze) and each.lifted_by == OTHER_CHECKER for each in both) == 1


async def test_a_proposal_of_somebody_who_lost_the_right_does_not_count(database_url: str) -> None:
    async with a_house(database_url) as house:
        freeze = await house.run(0, "freeze", freeze_command)
        await house.run(0, "freeze", lambda found: lift_command(found, freeze.freeze_id))
        await house.administer(REVOKE, CHECKER, Right.FREEZE)
        again = await house.run(
            1, "freeze", lambda found: lift_command(found, freeze.freeze_id, person_id=OTHER_CHECKER)
        )
        assert (again.lift_proposed_by, again.lifted_by) == (OTHER_CHECKER, None)


@pytest.mark.parametrize("key", ["k", None])
async def test_a_request_is_resubmitted_once(database_url: str, key: str | None) -> None:
    async with a_house(database_url) as house:
        (old,) = await house.submitted()
        await house.decide(0, old.request_id, verdict="rejected", sent_back=True)
        calls = [
            house.run(
                number,
                "submit",
                lambda found: submit_command(
                    found, points=90_000, resubmission_of=old.request_id, idempotency_key=key, idempotency_digest=b"d"
                ),
            )
            for number in range(12)
        ]
        outcomes = await asyncio.gather(*calls)
        found = Counter(type(each) for each in outcomes)
        assert found == {Request: 1, (AlreadyCompleted if key is None else Replayed): 11}
        (made,) = (each for each in outcomes if isinstance(each, Request))
        assert made.flags == ("resubmission",)
        for each in outcomes:
            if isinstance(each, Replayed):
                assert each.request_id == made.request_id


# ---------------------------------------------------------------- a second time, after a lost connection


async def dump(connection: Connection) -> dict[str, list[str]]:
    """Every row of every table."""
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {
        name: [row[0] for row in await connection.fetch(f"SELECT t::text FROM {name} t ORDER BY 1")]  # noqa: S608
        for name in (each["tablename"] for each in tables)
    }


async def prepared(house: House, verb: str) -> tuple[Any, Any, type[Any]]:
    """A command, the verb that carries it out, and what it answers."""
    (request,) = await house.submitted()
    found = await fetch_organisation(house.connection)
    match verb:
        case "withdraw":
            return withdraw_command(found, request.request_id), endings.withdraw_requests, Request
        case "send back":
            command = decide_command(found, request.request_id, verdict="rejected", sent_back=True)
            return command, requests.decide_requests, Request
        case "comment":
            return comment_command(found, request.request_id), comments.add_comments, object
        case "delegate":
            return delegate_command(found, "E-third"), delegations.change_delegations, Delegation
        case "end":
            lent = await house.run(0, "delegate", lambda it: delegate_command(it, "E-third"))
            found = await fetch_organisation(house.connection)
            ending = EndDelegation(ids.uuid7(), command_actor(found), lent.delegation_id, ids.salt())
            return ending, delegations.change_delegations, Delegation
        case "freeze":
            return freeze_command(found), freezes.change_freezes, Freeze
        case _:
            placed = await house.run(0, "freeze", freeze_command)
            found = await fetch_organisation(house.connection)
            return lift_command(found, placed.freeze_id), freezes.change_freezes, Freeze


VERBS = ["withdraw", "send back", "comment", "delegate", "end", "freeze", "lift"]
QUEUE = {"send back": "decide", "end": "delegate", "lift": "freeze"}


@pytest.mark.parametrize("verb", VERBS)
async def test_what_was_committed_is_found_again(database_url: str, verb: str) -> None:
    async with a_house(database_url, workers=1) as house:
        command, run, kind = await prepared(house, verb)
        answers = []
        for _ in range(2):
            async with transaction(house.workers[0].pool, lock_timeout_ms=2000) as tx:
                [answer] = await run(tx, await fetch_organisation(house.connection), [command])
            answers.append(answer)
            rows = await dump(house.connection)
            if len(answers) == 1:
                before = rows
        assert isinstance(answers[0], kind)
        assert not isinstance(answers[0], Refusal)
        assert answers[0] == answers[1]
        assert rows == before


@pytest.mark.parametrize("verb", VERBS)
async def test_a_lost_commit_ends_with_one_effect(database_url: str, verb: str) -> None:
    async with a_house(database_url, workers=1) as house, a_proxy(database_url) as proxy:
        command, _, _ = await prepared(house, verb)
        async with a_worker(proxy.url, pool_size=1) as worker:
            await worker.organisation()
            happened: list[bytes] = []

            def cut(side: str, kind: bytes, body: bytes) -> bool:
                if happened or (side, kind) != ("server", b"C") or not body.startswith(b"COMMIT"):
                    return False
                happened.append(body)
                return True

            proxy.cut = cut
            before = await house.connection.fetchval("SELECT count(*) FROM event")
            outcome = await getattr(worker, QUEUE.get(verb, verb))(command)
            assert not isinstance(outcome, Refusal | Stale), outcome
            assert happened
            assert worker.seen.retries["lost"] == 1
            assert await house.connection.fetchval("SELECT count(*) FROM event") == before + 1


# ---------------------------------------------------------------- round trips


async def trips_of(worker: Worker, proxy: Proxy, run: Callable[[Any], Awaitable[Any]]) -> int:
    """How often one transaction of this work waits for the server."""
    before = proxy.ready
    async with transaction(worker.pool, lock_timeout_ms=2000) as tx:
        outcomes = await run(tx)
    assert not [each for each in outcomes if isinstance(each, Refusal | Stale)], outcomes
    return proxy.ready - before


async def trips(house: House, worker: Worker, proxy: Proxy, verb: str, size: int) -> int:
    """The round trips of one batch of this verb."""
    made = [each.request_id for each in await house.submitted(size, points=1_000)]
    if verb == "expire":
        for each in made:
            await house.ends_in(each, 0)
    found = await fetch_organisation(house.connection)

    async def run(tx: Any) -> Any:
        match verb:
            case "withdraw":
                return await endings.withdraw_requests(tx, found, [withdraw_command(found, each) for each in made])
            case "send back":
                back = {"verdict": "rejected", "sent_back": True}
                commands = [decide_command(found, each, **back) for each in made]  # type: ignore[arg-type]
                return await requests.decide_requests(tx, found, commands)
            case "comment":
                return await comments.add_comments(tx, found, [comment_command(found, each) for each in made])
            case "delegate":
                lent = [delegate_command(found, "E-third") for _ in made]
                return await delegations.change_delegations(tx, found, lent)
            case "freeze":
                stops = [
                    freeze_command(found, scope=Scope.MEMBER, target=str(each.int % 10**12 + number))
                    for number, each in enumerate(made)
                ]
                return await freezes.change_freezes(tx, found, stops)
            case _:
                assert await endings.expire_requests(tx, found, 100) == size
                return []

    return await trips_of(worker, proxy, run)


@pytest.mark.usefixtures("reads_that_never_waited")
async def test_a_batch_makes_as_many_round_trips_as_a_single_command(database_url: str) -> None:
    async with (
        a_house(database_url, workers=1, life_hours=1) as house,
        a_proxy(database_url) as proxy,
        a_worker(proxy.url, pool_size=1) as worker,
    ):
        # BEGIN with its settings, the locking read, the write, COMMIT; a lock that many wait for is a trip of its own.
        wanted = {"withdraw": 4, "send back": 4, "comment": 4, "delegate": 5, "freeze": 5, "expire": 5}
        for verb, count in wanted.items():
            found: dict[int, list[int]] = {1: [], 10: []}
            for size in (1, 10, 1, 10):  # statements are prepared once
                found[size].append(await trips(house, worker, proxy, verb, size))
            assert {size: min(each) for size, each in found.items()} == {1: count, 10: count}, verb
