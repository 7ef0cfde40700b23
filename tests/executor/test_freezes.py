"""What is frozen after its approval is not executed until the freeze is lifted; everything else is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil import telemetry
from counterfoil.application import keys
from counterfoil.application.group_commit import Limits
from counterfoil.domain.freezes import Scope, frost, stopped_by
from counterfoil.domain.organisations import Freeze
from counterfoil.domain.requests import Decide, Request, State
from counterfoil.executor.engine import Executor, open_executor
from tests import invariants
from tests.builders import (
    CHECKER,
    MAKER,
    ZONE,
    connect,
    decide_command,
    freeze_command,
    lift_command,
    organisation,
    seed_member,
    seed_organisation,
    submit_command,
)
from tests.executor.hosts import IntouchHost, a_host
from tests.executor.test_crashes import BOUNDS, PAYLOAD
from tests.workers import Worker, a_worker

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SCOPES = {
    Scope.ORGANISATION: "",
    Scope.UNIT: str(ZONE),
    Scope.TYPE: "POINTS-REDEMPTION",
    Scope.HOST: "h1",
    Scope.MAKER: MAKER,
    Scope.MEMBER: "382332518",
}


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    found = await connect(database_url)
    try:
        await seed_organisation(found)
        await seed_member(found, [])
        await found.execute(
            "INSERT INTO access_grant (org_id, grant_id, person_id, access_right) "
            "SELECT 51250, gen_random_uuid(), p, 'CanFreeze' FROM unnest($1::text[]) p",
            [CHECKER, MAKER],
        )
        yield found
        await invariants.check(found)
    finally:
        await found.close()


@pytest.fixture
async def host(connection: Any) -> AsyncIterator[IntouchHost]:
    with a_host() as found:
        await connection.execute(
            "UPDATE host SET target = 'external', base_url = $1, plain_http = true, private = true, "
            "absent_after_seconds = 0.2", found.url,
        )  # fmt: skip
        yield found


@asynccontextmanager
async def an_executor(worker: Worker, folder: Path) -> AsyncIterator[Executor]:
    keys.load_or_create_keys(folder / "keys.json")
    in_use = keys.KeysInUse(folder / "keys.json", telemetry.keys_not_read)
    async with open_executor(
        worker.pool, worker.organisations, in_use, Limits(), telemetry.Telemetry(), bounds=BOUNDS, owner="one"
    ) as executor:
        yield executor


_numbers = count()


async def approved(worker: Worker, *, mobile: str = "919988776655", **lease: Any) -> Request:
    """A request that an executor may take at once."""
    found = await worker.organisation()
    reference = f"REF-{next(_numbers)}"
    item = {"points_redeemed": "100", "customer": {"mobile": mobile}, "external_reference_number": reference}
    payload = msgspec.json.encode(PAYLOAD | {"body": {"root": {"redeem": item}}})
    command = submit_command(found, reference=reference, mobile=mobile, payload=payload)
    assert isinstance(await worker.submit(command), Request)
    decide: Decide = decide_command(found, command.request_id, **lease)
    decided = await worker.decide(decide)
    assert isinstance(decided, Request)
    assert decided.state is State.APPROVED
    return decided


async def freeze(worker: Worker, scope: Scope) -> UUID:
    placed = await worker.freeze(freeze_command(await worker.organisation(), scope=scope, target=SCOPES[scope]))
    assert isinstance(placed, Freeze)
    worker.organisations.forget(51250, -1)
    return placed.freeze_id


async def lift(worker: Worker, freeze_id: UUID) -> None:
    for person_id in (CHECKER, MAKER):
        lifted = await worker.freeze(lift_command(await worker.organisation(), freeze_id, person_id=person_id))
        assert isinstance(lifted, Freeze)
        worker.organisations.forget(51250, -1)


async def ended(connection: Any, request_id: UUID, state: str) -> None:
    for _ in range(500):
        if await connection.fetchval("SELECT state FROM request WHERE request_id = $1", request_id) == state:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"not {state} in time")


@pytest.mark.parametrize("scope", SCOPES)
async def test_what_is_frozen_is_not_claimed_until_it_is_lifted(
    connection: Any, host: IntouchHost, database_url: str, tmp_path: Path, scope: Scope
) -> None:
    """The freezes are placed and lifted by another process than the one that executes."""
    async with a_worker(database_url) as worker, a_worker(database_url) as other:
        request = await approved(worker)
        freeze_id = await freeze(other, scope)
        async with an_executor(worker, tmp_path):
            await asyncio.sleep(0.4)
            assert host.received == []
            assert await connection.fetchval("SELECT fence FROM request") == 0, "it was not even claimed"
            await lift(other, freeze_id)
            await ended(connection, request.request_id, "succeeded")
    assert len(host.redeemed) == 1


async def test_what_was_claimed_before_the_freeze_is_given_back(
    connection: Any, host: IntouchHost, database_url: str, tmp_path: Path
) -> None:
    async with a_worker(database_url) as worker, a_worker(database_url) as other:
        request = await approved(worker, lease_owner="one", lease_seconds=30.0)
        freeze_id = await freeze(other, Scope.MEMBER)
        async with an_executor(worker, tmp_path) as executor:
            await executor.carry_out(51250, request)
            assert host.received == []
            row = await connection.fetchrow("SELECT state, lease_owner FROM request")
            assert tuple(row) == ("approved", None)
            await lift(other, freeze_id)
            await ended(connection, request.request_id, "succeeded")
    assert len(host.redeemed) == 1


async def test_a_lost_answer_is_not_looked_up_while_it_is_frozen(
    connection: Any, host: IntouchHost, database_url: str, tmp_path: Path
) -> None:
    host.plan("cut_after")
    host.look_ups = "broken"
    async with a_worker(database_url) as worker, a_worker(database_url) as other:
        request = await approved(worker)
        async with an_executor(worker, tmp_path):
            await ended(connection, request.request_id, "unknown")
            freeze_id = await freeze(other, Scope.HOST)
            await asyncio.sleep(0.3)
            host.look_ups = "ok"
            seen = len(host.received)
            await asyncio.sleep(0.5)
            assert len(host.received) == seen
            await lift(other, freeze_id)
            await ended(connection, request.request_id, "succeeded")
    assert len(host.redeemed) == 1


async def test_others_go_on(connection: Any, host: IntouchHost, database_url: str, tmp_path: Path) -> None:
    async with a_worker(database_url) as worker, a_worker(database_url) as other:
        frozen, free = await approved(worker), await approved(worker, mobile="919000000000")
        await freeze(other, Scope.MEMBER)
        async with an_executor(worker, tmp_path):
            await ended(connection, free.request_id, "succeeded")
    assert await connection.fetchval("SELECT state FROM request WHERE request_id = $1", frozen.request_id) == "approved"
    assert len(host.redeemed) == 1


TARGETS = {
    Scope.ORGANISATION: [""],
    Scope.UNIT: [str(unit_id) for unit_id in organisation().units],
    Scope.TYPE: ["POINTS-REDEMPTION", "EARN-BADGE"],
    Scope.HOST: ["h1", "h2"],
    Scope.MAKER: [MAKER, CHECKER],
    Scope.MEMBER: ["1", "2"],
}
FREEZES = st.lists(
    st.sampled_from([(scope, target) for scope, targets in TARGETS.items() for target in targets]), max_size=4
)


@given(
    FREEZES,
    st.sampled_from(sorted(organisation().units)),
    *(st.sampled_from(TARGETS[scope]) for scope in (Scope.TYPE, Scope.HOST, Scope.MAKER)),
    st.sampled_from([None, 1, 2, 3]),
)
def test_what_the_claim_skips_is_what_the_rule_stops(
    frozen: list[tuple[Scope, str]], unit_id: int, request_type: str, host_id: str, maker: str, member_id: int | None
) -> None:
    org = organisation(
        freezes=[
            Freeze(UUID(int=number), scope, target, "r", "E", "e", NOW) for number, (scope, target) in enumerate(frozen)
        ]
    )
    found = frost(org)
    skipped = (
        found.everything
        or host_id in found.hosts
        or unit_id in found.units
        or request_type in found.types
        or maker in found.makers
        or member_id in found.members
    )
    stopped = stopped_by(
        org, unit_id=unit_id, request_type=request_type, host_id=host_id, maker_person_id=maker, member_id=member_id
    )
    assert skipped == (stopped is not None)
