"""The verbs on a real database: what each leaves behind, alone, together with others, and a second time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import pytest
from msgspec.structs import replace

from counterfoil.application import ids, points, reads, requests
from counterfoil.application.requests import KeyConflict, Replayed, Stale
from counterfoil.domain.access import Right
from counterfoil.domain.intouch_answers import Outcome
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.redemptions import Redeem
from counterfoil.domain.refusals import (
    AlreadyCompleted,
    InvalidPayload,
    NotPermitted,
    Refusal,
    SelfApproval,
    WrongRequest,
)
from counterfoil.domain.requests import Decide, NeedsTillCheck, Request, State, Submit
from counterfoil.storage.database import Pool, Tx, open_pool, transaction
from tests import invariants
from tests.builders import (
    CHECKER,
    MAKER,
    OTHER_CHECKER,
    Lot,
    connect,
    decide_command,
    fetch_organisation,
    redeem_command,
    seed_member,
    seed_organisation,
    submit_command,
)

C = TypeVar("C")
R = TypeVar("R")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
MEMBER = 382332518
TABLES = (
    "organisation", "member", "member_identifier", "lot", "request", "decision", "idempotency_key", "hold", "hold_lot",
    "journal", "posting", "redemption", "goodwill", "member_status", "outbox",
)  # fmt: skip


@dataclass
class House:
    """A database with the demo organisation, and the verbs run as one batch each."""

    pool: Pool
    connection: Connection
    organisation: Organisation

    async def run(
        self, verb: Callable[[Tx, Organisation, Sequence[C]], Awaitable[Sequence[R]]], commands: Sequence[C]
    ) -> Sequence[R]:
        async with transaction(self.pool, lock_timeout_ms=2000) as tx:
            return await verb(tx, self.organisation, commands)

    async def submit(self, *commands: Submit) -> list[Any]:
        return list(await self.run(requests.submit_requests, commands))

    async def decide(self, *commands: Decide) -> list[Any]:
        return list(await self.run(requests.decide_requests, commands))

    async def redeem(self, *commands: Redeem) -> list[Any]:
        return list(await self.run(points.redeem_points, commands))

    async def submitted(self, **changes: Any) -> Request:
        (outcome,) = await self.submit(submit_command(self.organisation, **changes))
        assert isinstance(outcome, Request)
        return outcome

    async def decided(self, request: Request, **changes: Any) -> Request:
        (outcome,) = await self.decide(decide_command(self.organisation, request.request_id, **changes))
        assert isinstance(outcome, Request)
        return outcome

    async def totals(self, member_id: int = MEMBER) -> tuple[int, int]:
        row = await self.connection.fetchrow(
            "SELECT available, held FROM member WHERE org_id = $1 AND member_id = $2",
            self.organisation.org_id,
            member_id,
        )
        assert row is not None
        return row["available"], row["held"]

    async def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row but the audit's, with the transaction that wrote it: what was rewritten shows, too."""
        return {
            table: [
                tuple(row)
                for row in await self.connection.fetch(f"SELECT t.xmin, t::text FROM {table} t ORDER BY t::text")  # noqa: S608
            ]
            for table in TABLES
        }

    async def events(self, subject_id: UUID) -> list[str]:
        rows = await self.connection.fetch(
            "SELECT kind FROM event WHERE org_id = $1 AND subject_id = $2 ORDER BY at, event_id",
            self.organisation.org_id,
            subject_id,
        )
        return [row["kind"] for row in rows]

    async def later(self, **time: int) -> None:
        """Let time pass: what has an end comes nearer to it."""
        passed = timedelta(**time)
        await self.connection.execute(
            "UPDATE lot SET expires_at = expires_at - $1::interval, grace_until = grace_until - $1::interval", passed
        )
        await self.connection.execute("UPDATE hold SET expires_at = expires_at - $1::interval", passed)


@asynccontextmanager
async def a_house(url: str, lots: Sequence[Lot] = (Lot(500_000),), **changes: Any) -> AsyncIterator[House]:
    """Afterwards every invariant has been checked."""
    async with AsyncExitStack() as stack:
        connection = await connect(url)
        stack.push_async_callback(connection.close)
        await seed_organisation(connection, **changes)
        await seed_member(connection, lots)
        pool = await open_pool(url, size=2)
        stack.push_async_callback(pool.close)
        yield House(pool, connection, await fetch_organisation(connection))
        await invariants.check(connection)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with a_house(database_url) as found:
        yield found


# ---------------------------------------------------------------- one request


async def test_an_approved_request_leaves_a_whole_story(house: House) -> None:
    request = await house.submitted(reference="ACR-583523332039150121")
    assert await house.totals() == (400_000, 100_000)
    done = await house.decided(request)
    assert done.state is State.SUCCEEDED
    assert await house.totals() == (400_000, 0)
    assert await house.events(request.request_id) == ["submitted", "succeeded"]
    row = await house.connection.fetchrow("SELECT * FROM redemption")
    assert row is not None
    assert done.outcome is not None
    assert row["redemption_id"] == done.outcome.redemption_id
    assert (row["request_id"], row["member_id"], row["points"]) == (request.request_id, MEMBER, 100_000)
    assert (row["external_reference"], row["till_login"]) == ("ACR-583523332039150121", "ind.1")
    kinds = await house.connection.fetch(
        "SELECT kind FROM journal WHERE request_id = $1 ORDER BY at", request.request_id
    )
    assert [each["kind"] for each in kinds] == ["place", "capture"]


async def test_what_is_read_later_is_what_was_answered(house: House) -> None:
    pending = await house.submitted(reference="ACR-1", till_login=None, till_epoch=None)
    stored = await reads.find_request(house.pool, 51250, pending.request_id)
    assert stored is not None
    assert stored.request == pending
    failed = await house.decided(pending, till_verified=False)
    stored = await reads.find_request(house.pool, 51250, pending.request_id)
    assert stored is not None
    assert stored.request == failed
    assert failed.state is State.FAILED


async def test_a_rejected_request_gives_the_points_back(house: House) -> None:
    done = await house.decided(await house.submitted(), verdict="rejected")
    assert (done.state, done.outcome) == (State.REJECTED, None)
    assert await house.totals() == (500_000, 0)
    assert await house.connection.fetchval("SELECT count(*) FROM redemption") == 0
    assert await house.events(done.request_id) == ["submitted", "rejected"]


@pytest.mark.parametrize(
    ("changes", "decision", "code"),
    [
        ({"points": 500_001}, {}, 818),
        ({"mobile": "910000000000"}, {}, 816),
        ({"till_login": None, "till_epoch": None}, {"till_verified": False}, 401),
        ({"reference": "used"}, {}, 744),
    ],
)
async def test_what_the_points_api_refuses_ends_as_failed(
    house: House, changes: dict[str, Any], decision: dict[str, Any], code: int
) -> None:
    await house.decided(await house.submitted(reference="used", points=1_000))
    before = await house.totals()
    done = await house.decided(await house.submitted(**changes), **decision)
    assert done.outcome is not None
    assert (done.state, done.outcome.code) == (State.FAILED, code)
    assert await house.totals() == before
    assert await house.connection.fetchval("SELECT count(*) FROM redemption") == 1


async def test_a_member_who_joins_later_can_still_be_served(house: House) -> None:
    request = await house.submitted(mobile="911111111111")
    assert request.flags == ("member_unknown", "unfunded")
    await seed_member(house.connection, [Lot(100_000)], member_id=7, mobile="911111111111")
    done = await house.decided(request)
    assert (done.state, done.member_id) == (State.SUCCEEDED, 7)
    assert await house.totals(7) == (0, 0)


async def test_two_voices_of_two_people_execute(database_url: str) -> None:
    async with a_house(database_url, approvals=2) as house:
        request = await house.submitted()
        voice = await house.decided(request)
        assert (voice.state, len(voice.decisions)) == (State.PENDING, 1)
        (again,) = await house.decide(decide_command(house.organisation, request.request_id))
        assert isinstance(again, AlreadyCompleted)
        done = await house.decided(request, person_id=OTHER_CHECKER)
        assert (done.state, done.version) == (State.SUCCEEDED, 3)
        assert await house.events(request.request_id) == ["submitted", "voice", "succeeded"]


# ---------------------------------------------------------------- several commands in one batch


async def test_makers_in_one_batch_share_what_the_member_has(house: House) -> None:
    outcomes = await house.submit(*(submit_command(house.organisation) for _ in range(8)))
    assert [each.flags for each in outcomes] == [()] * 5 + [("unfunded",)] * 3
    assert await house.totals() == (0, 500_000)
    done = await house.decide(*(decide_command(house.organisation, each.request_id) for each in outcomes))
    assert [each.outcome.code for each in done] == [800] * 5 + [818] * 3
    assert await house.totals() == (0, 0)


async def test_one_reference_in_one_batch_is_redeemed_once(house: House) -> None:
    one, other = await house.submit(*(submit_command(house.organisation, reference="ACR-1") for _ in range(2)))
    assert (one.flags, other.flags) == ((), ("duplicate",))
    assert other.duplicate_of == one.request_id
    assert await house.totals() == (400_000, 100_000)
    done = await house.decide(*(decide_command(house.organisation, each.request_id) for each in (other, one)))
    assert [each.outcome.code for each in done] == [800, 744]
    assert await house.totals() == (400_000, 0)


async def test_two_checkers_in_one_batch_decide_once(house: House) -> None:
    request = await house.submitted()
    outcomes = await house.decide(
        decide_command(house.organisation, request.request_id, verdict="rejected"),
        decide_command(house.organisation, request.request_id, person_id=OTHER_CHECKER),
        decide_command(house.organisation, request.request_id),
    )
    assert outcomes[0].state is State.REJECTED
    assert all(isinstance(each, AlreadyCompleted) for each in outcomes[1:])
    assert "checker@tipent.com rejected it" in outcomes[1].message


async def test_two_voices_in_one_batch_execute(database_url: str) -> None:
    async with a_house(database_url, approvals=2) as house:
        request = await house.submitted()
        voice, again, done = await house.decide(
            decide_command(house.organisation, request.request_id),
            decide_command(house.organisation, request.request_id),
            decide_command(house.organisation, request.request_id, person_id=OTHER_CHECKER),
        )
        assert voice.state is State.PENDING
        assert isinstance(again, AlreadyCompleted)
        assert (done.state, done.version) == (State.SUCCEEDED, 3)


async def test_voices_of_one_batch_are_read_in_their_order(database_url: str) -> None:
    async with a_house(database_url, approvals=2) as house:
        made = await house.submit(*(submit_command(house.organisation, points=1_000) for _ in range(20)))
        outcomes = await house.decide(
            *(
                decide_command(house.organisation, each.request_id, person_id=person, verdict=verdict)
                for each in made
                for person, verdict in ((CHECKER, "approved"), (OTHER_CHECKER, "rejected"))
            )
        )
        for last in outcomes[1::2]:
            stored = await reads.find_request(house.pool, 51250, last.request_id)
            assert stored is not None
            assert stored.request == last
            assert await house.events(last.request_id) == ["submitted", "voice", "rejected"]


async def test_a_refused_command_does_not_hinder_its_neighbours(house: House) -> None:
    first, refused, last = await house.submit(
        submit_command(house.organisation),
        submit_command(house.organisation, person_id=CHECKER),
        submit_command(house.organisation, points=400_001),
    )
    assert first.flags == ()
    assert isinstance(refused, NotPermitted)
    assert last.flags == ("unfunded",)
    outcomes = await house.decide(
        decide_command(house.organisation, first.request_id, person_id=MAKER),
        decide_command(house.organisation, ids.uuid7()),
        decide_command(house.organisation, first.request_id),
    )
    assert isinstance(outcomes[0], SelfApproval)
    assert isinstance(outcomes[1], WrongRequest)
    assert outcomes[2].state is State.SUCCEEDED


@pytest.mark.parametrize("size", [1, 12])
async def test_a_batch_does_what_its_commands_do_one_by_one(database_url: str, size: int) -> None:
    """The same story with batches of one and of twelve ends with the same rows."""
    lots = [Lot(300_000, datetime(2099, 1, 1, tzinfo=UTC)), Lot(350_500)]
    async with a_house(database_url, lots) as house:
        asked = [
            submit_command(house.organisation, points=60_250 + 1_000 * n, reference=f"R{n % 9}") for n in range(12)
        ]
        outcomes = [each for start in range(0, 12, size) for each in await house.submit(*asked[start : start + size])]
        # Request 9 repeats the reference of request 0, and so on: marked, and without a hold.
        assert [each.flags for each in outcomes] == [()] * 9 + [("duplicate",)] * 3
        voices = [
            decide_command(house.organisation, each.request_id, verdict="rejected" if n % 4 == 3 else "approved")
            for n, each in enumerate(outcomes)
        ]
        done = [each for start in range(0, 12, size) for each in await house.decide(*voices[start : start + size])]
        assert [each.outcome.code if each.outcome else None for each in done] == [
            800, 800, 800, None, 800, 800, 800, None, 800, 744, 744, None,
        ]  # fmt: skip
        rows = await house.connection.fetch("SELECT reference, remaining, held FROM lot ORDER BY reference")
        # What request 3 had pinned of the lot that ends went back to it.
        redeemed = sum(60_250 + 1_000 * n for n in (0, 1, 2, 4, 5, 6, 8))
        assert [tuple(row) for row in rows] == [
            ("award-0", 63_250, 0),
            ("award-1", 650_500 - redeemed - 63_250, 0),
        ]


# ---------------------------------------------------------------- the same key


def keyed(house: House, key: str = "k1", digest: bytes = b"d", **changes: Any) -> Submit:
    return submit_command(house.organisation, idempotency_key=key, idempotency_digest=digest, **changes)


async def test_the_same_key_is_answered_with_the_first_request(house: House) -> None:
    (first,) = await house.submit(keyed(house))
    before = await house.dump()
    (again,) = await house.submit(keyed(house))
    (other,) = await house.submit(keyed(house, digest=b"other"))
    assert again == Replayed(first.request_id)
    assert other == KeyConflict(first.request_id)
    assert await house.dump() == before
    (free,) = await house.submit(keyed(house, key="k2"))
    assert isinstance(free, Request)


async def test_the_same_key_twice_in_one_batch_makes_one_request(house: House) -> None:
    outcomes = await house.submit(
        keyed(house), keyed(house), keyed(house, digest=b"other"), keyed(house, key="k2"), keyed(house)
    )
    assert isinstance(outcomes[0], Request)
    first = outcomes[0].request_id
    assert outcomes[1:3] == [Replayed(first), KeyConflict(first)]
    assert isinstance(outcomes[3], Request)
    assert outcomes[4] == Replayed(first)
    assert await house.connection.fetchval("SELECT count(*) FROM request") == 2


async def test_a_refused_command_leaves_its_key_free(house: House) -> None:
    (refused,) = await house.submit(keyed(house, person_id=CHECKER))
    assert isinstance(refused, NotPermitted)
    (accepted,) = await house.submit(keyed(house, digest=b"other"))
    assert isinstance(accepted, Request)


async def test_a_key_in_one_batch_with_a_refused_one_is_answered_truly(house: House) -> None:
    """A twin of a refused command is tried again: there is no request that could be its answer."""
    refused, twin, other, free = await house.submit(
        keyed(house, person_id=CHECKER), keyed(house), keyed(house, digest=b"other"), keyed(house, key="k2")
    )
    assert isinstance(refused, NotPermitted)
    assert isinstance(twin, Stale)
    assert isinstance(other, Stale)
    assert isinstance(free, Request)
    assert await house.connection.fetchval("SELECT count(*) FROM idempotency_key") == 1


async def test_a_key_belongs_to_its_caller(house: House) -> None:
    (first,) = await house.submit(keyed(house))
    actor = replace(keyed(house).actor, login="another.client")
    (other,) = await house.submit(keyed(house, actor=actor))
    assert isinstance(first, Request)
    assert isinstance(other, Request)


# ---------------------------------------------------------------- a second time, after a lost connection


async def test_a_submission_that_was_committed_is_found_again(house: House) -> None:
    command = submit_command(house.organisation, reference="ACR-1")
    await house.submit(command)
    before = await house.dump()
    assert await house.submit(command) == [Replayed(command.request_id)]
    assert await house.dump() == before


@pytest.mark.parametrize("verdict", ["approved", "rejected"])
async def test_a_decision_that_was_committed_is_found_again(house: House, verdict: str) -> None:
    command = decide_command(house.organisation, (await house.submitted()).request_id, verdict=verdict)
    first = await house.decide(command)
    before = await house.dump()
    assert await house.decide(command) == first
    assert await house.dump() == before


async def test_a_direct_redemption_that_was_committed_is_found_again(database_url: str) -> None:
    async with a_house(database_url, rights=[Right.MOVE_DIRECTLY]) as house:
        command = redeem_command(house.organisation, reference="ACR-1")
        first = await house.redeem(command)
        before = await house.dump()
        assert await house.redeem(command) == first
        assert await house.dump() == before


async def test_a_refusal_that_was_committed_is_the_same_again(house: House) -> None:
    request = await house.submitted()
    submission = submit_command(house.organisation, person_id=CHECKER)
    decision = decide_command(house.organisation, request.request_id, person_id=MAKER)
    for _ in range(2):
        (not_made,) = await house.submit(submission)
        (not_decided,) = await house.decide(decision)
        assert isinstance(not_made, NotPermitted)
        assert isinstance(not_decided, SelfApproval)
    assert await house.events(submission.request_id) == ["submission_refused"]
    assert sorted(await house.events(request.request_id)) == ["decision_refused", "submitted"]


async def test_a_refusal_in_a_batch_that_is_run_again_hinders_nobody(house: House) -> None:
    """The first run was committed without its answer: the second finds all of it."""
    one, other = await house.submitted(), await house.submitted()
    commands = [
        decide_command(house.organisation, one.request_id, person_id=MAKER),
        decide_command(house.organisation, one.request_id),
        decide_command(house.organisation, other.request_id, person_id=MAKER),
    ]
    first = await house.decide(*commands)
    before = await house.dump()
    second = await house.decide(*commands)
    assert [type(each) for each in second] == [type(each) for each in first] == [SelfApproval, Request, SelfApproval]
    assert second[1] == first[1]
    assert await house.dump() == before


# ---------------------------------------------------------------- what is refused changes nothing


@pytest.mark.parametrize(
    "changes",
    [
        {"person_id": MAKER},
        {"request_type": "GOODWILL-POINTS"},
        {"digest_seen": "00"},
        {"request_id": UUID(int=1)},
    ],
)
async def test_a_refused_decision_leaves_every_row_as_it_was(house: House, changes: dict[str, Any]) -> None:
    request = await house.submitted()
    before = await house.dump()
    command = decide_command(house.organisation, request.request_id)
    if changes.get("person_id") == MAKER:
        command = decide_command(house.organisation, request.request_id, person_id=MAKER)
    else:
        command = replace(command, **changes)
    (refused,) = await house.decide(command)
    assert isinstance(refused, Refusal)
    assert await house.dump() == before


async def test_a_refused_submission_leaves_every_row_as_it_was(database_url: str) -> None:
    async with a_house(database_url, profile="strict") as house:
        before = await house.dump()
        refused = await house.submit(
            submit_command(house.organisation, points=500_001),
            submit_command(house.organisation, person_id=CHECKER),
            keyed(house, mobile="910000000000"),
        )
        assert [type(each) for each in refused] == [InvalidPayload, NotPermitted, InvalidPayload]
        assert await house.dump() == before
        assert await house.connection.fetchval("SELECT count(*) FROM event") == 1


async def test_a_till_check_that_is_needed_changes_nothing(house: House) -> None:
    request = await house.submitted(till_login=None, till_epoch=None)
    before = await house.dump()
    (outcome,) = await house.decide(decide_command(house.organisation, request.request_id))
    assert isinstance(outcome, NeedsTillCheck)
    assert await house.dump() == before


async def test_a_stale_snapshot_decides_nothing(database_url: str) -> None:
    async with a_house(database_url, rights=[Right.MOVE_DIRECTLY]) as house:
        request = await house.submitted()
        await house.connection.execute("UPDATE organisation SET version = version + 1")
        before = await house.dump()
        outcomes = [
            *await house.submit(keyed(house)),
            *await house.decide(decide_command(house.organisation, request.request_id)),
            *await house.redeem(redeem_command(house.organisation)),
        ]
        assert outcomes == [Stale(2)] * 3
        assert await house.dump() == before
        fresh = await fetch_organisation(house.connection)
        old_actor = decide_command(house.organisation, request.request_id)
        house.organisation = fresh
        assert await house.decide(old_actor) == [Stale(2)]
        assert await house.dump() == before


async def test_organisations_do_not_touch_each_other(database_url: str) -> None:
    async with a_house(database_url) as house:
        await seed_organisation(house.connection, 2)
        await seed_member(house.connection, [Lot(500_000)], org_id=2)
        request = await house.submitted(reference="ACR-1")
        home, house.organisation = house.organisation, await fetch_organisation(house.connection, 2)
        (refused,) = await house.decide(decide_command(house.organisation, request.request_id))
        assert isinstance(refused, WrongRequest)
        same = await house.submitted(reference="ACR-1")
        assert same.flags == ()
        done = await house.decided(same)
        assert done.state is State.SUCCEEDED
        house.organisation = home
        assert await house.totals() == (400_000, 100_000)
        assert (await house.decided(request)).state is State.SUCCEEDED


# ---------------------------------------------------------------- time


async def test_a_request_outlives_its_hold(house: House) -> None:
    request = await house.submitted(points=400_000)
    await house.later(days=7)
    other = await house.submitted(points=300_000)
    assert other.flags == ()
    assert await house.totals() == (200_000, 300_000)
    done = await house.decided(request)
    assert done.outcome is not None
    assert (done.state, done.outcome.code) == (State.FAILED, 818)
    assert (await house.decided(other)).state is State.SUCCEEDED
    state = await house.connection.fetchval("SELECT state FROM hold WHERE request_id = $1", request.request_id)
    assert state == "expired"


async def test_a_request_whose_hold_is_over_takes_what_is_there(house: House) -> None:
    request = await house.submitted(points=400_000)
    await house.later(days=7)
    assert (await house.decided(request)).state is State.SUCCEEDED
    assert await house.totals() == (100_000, 0)


async def test_a_hold_may_end_while_its_batch_is_read(database_url: str) -> None:
    """Some of the holds end between the reading of the account and the decision: that is one moment, too."""
    async with a_house(database_url, [Lot(400_000)]) as house:
        for microseconds in (50, 100, 200, 400):
            made = await house.submit(*(submit_command(house.organisation, points=1_000) for _ in range(100)))
            voices = [decide_command(house.organisation, each.request_id) for each in made]
            for _ in range(2):  # each connection knows the statement: it is carried out at once
                await house.decide(decide_command(house.organisation, ids.uuid7()))
            await house.connection.execute(
                "UPDATE hold SET expires_at = clock_timestamp() + n * $1::interval FROM ("
                "SELECT request_id, row_number() OVER () AS n FROM hold WHERE state = 'open') one "
                "WHERE one.request_id = hold.request_id",
                timedelta(microseconds=microseconds),
            )
            done = await house.decide(*voices)
            assert {each.state for each in done} == {State.SUCCEEDED}
            await invariants.check(house.connection)
        assert await house.totals() == (0, 0)


async def test_pinned_points_survive_the_end_of_their_lot(database_url: str) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    async with a_house(database_url, [Lot(300_000, tomorrow), Lot(100_000)]) as house:
        request = await house.submitted(points=200_000)
        rejected = await house.submitted(points=50_000)
        await house.later(days=2)
        assert (await house.decided(request)).state is State.SUCCEEDED
        assert await house.totals() == (100_000, 50_000)
        assert (await house.decided(rejected, verdict="rejected")).state is State.REJECTED
        assert await house.totals() == (150_000, 0)
        await house.later(hours=24)
        last = await house.submitted(points=150_000)
        assert last.flags == ("unfunded",)
        assert await house.totals() == (100_000, 0)


# ---------------------------------------------------------------- directly


async def test_a_direct_redemption_needs_the_right_and_spends_what_is_not_held(database_url: str) -> None:
    async with a_house(database_url, rights=[Right.MOVE_DIRECTLY]) as house:
        await house.submitted(points=200_000, reference="ACR-1")
        outcomes = await house.redeem(
            redeem_command(house.organisation, points=300_001),
            redeem_command(house.organisation, points=300_000, reference="ACR-2"),
            redeem_command(house.organisation, points=1_000, reference="ACR-2"),
            redeem_command(house.organisation, points=1_000),
            redeem_command(house.organisation, mobile="910000000000"),
        )
        assert [each.code for each in outcomes] == [818, 800, 744, 818, 816]
        assert await house.totals() == (0, 200_000)
        actor = replace(redeem_command(house.organisation).actor, login_rights=frozenset())
        (refused,) = await house.redeem(redeem_command(house.organisation, actor=actor))
        assert isinstance(refused, NotPermitted)


async def test_a_reference_that_was_redeemed_directly_fails_the_request(database_url: str) -> None:
    async with a_house(database_url, rights=[Right.MOVE_DIRECTLY]) as house:
        request = await house.submitted(reference="ACR-1")
        (direct,) = await house.redeem(redeem_command(house.organisation, reference="ACR-1"))
        assert isinstance(direct, Outcome)
        assert direct.code == 800
        done = await house.decided(request)
        assert done.outcome is not None
        assert (done.state, done.outcome.code) == (State.FAILED, 744)
        assert await house.totals() == (400_000, 0)


async def test_a_redemption_id_that_is_taken_is_replaced_by_the_spare(database_url: str) -> None:
    async with a_house(database_url, rights=[Right.MOVE_DIRECTLY]) as house:
        await house.redeem(redeem_command(house.organisation, redemption_ids=("AAAAAA", "BBBBBB")))
        (direct,) = await house.redeem(redeem_command(house.organisation, redemption_ids=("AAAAAA", "CCCCCC")))
        assert direct.redemption_id == "CCCCCC"
        done = await house.decided(await house.submitted(), redemption_ids=("AAAAAA", "DDDDDD"))
        assert done.outcome is not None
        assert done.outcome.redemption_id == "DDDDDD"
