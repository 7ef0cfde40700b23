"""Processes that die, freeze or lose their database: the one true answer, and nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from counterfoil import telemetry
from counterfoil.application import keys
from counterfoil.application.group_commit import Limits
from counterfoil.application.requests import Replayed
from counterfoil.domain.executions import Pace
from counterfoil.domain.requests import Request, State
from counterfoil.executor.engine import Bounds, open_executor
from tests import invariants
from tests.builders import connect, decide_command, seed_organisation, submit_command
from tests.contract.serving import PROGRAM, Serve
from tests.executor.conftest import a_service, a_shop, attempts_of, reference_of, settled
from tests.executor.hosts import a_host
from tests.proxies import a_proxy
from tests.workers import a_worker

BOUNDS = Bounds(lease_seconds=30, poll_seconds=0.05, breaker_seconds=0.2, pace=Pace(0.05, 0.05))


@contextmanager
def an_executor(serve: Serve, **variables: object) -> Iterator[subprocess.Popen[bytes]]:
    """`counterfoil execute` as a process of its own."""
    environment = serve.environment | {name: str(value) for name, value in variables.items()}
    with serve.log.open("ab") as log:
        process = subprocess.Popen([*PROGRAM, "execute"], env=environment, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith(b"Counterfoil executes")
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=40) in (0, -signal.SIGKILL)
        process.stdout.close()


@pytest.fixture
def idle(server: Any) -> Iterator[Serve]:
    """A service that decides and leaves the execution to others."""
    with a_service(
        server, COUNTERFOIL_EXECUTE="off", COUNTERFOIL_DECIDE_SECONDS_MAX=0, COUNTERFOIL_LEASE_SECONDS=2
    ) as serve:
        yield serve


def wait_until(is_so: Callable[[], object], seconds: float = 60) -> None:
    give_up_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_in_the_middle_of_a_call(idle: Serve) -> None:
    """Whoever comes after takes the open attempt for lost, looks it up, and finds the effect."""
    with ExitStack() as stack:
        host = stack.enter_context(a_host())
        host.slow_seconds = 60
        host.plan("slow_after")
        shop = a_shop(idle, stack.enter_context(idle.client()), host, attemptSeconds=120)
        with an_executor(idle) as process:
            created = shop.create()
            assert shop.approve(created["requestId"])["state"] == "AdminTask"
            wait_until(lambda: host.effects)
            process.kill()
        assert settled(shop, created["requestId"], 0)["state"] == "AdminTask"
        with an_executor(idle):
            data = settled(shop, created["requestId"])
        assert data["state"] == "approved"
        assert host.effects == {reference_of(data): 1}
        [attempt] = attempts_of(shop, created["requestId"])
        assert (attempt["state"], attempt["outcome"], attempt["response"]) == ("planned", "unknown", None)


@pytest.mark.slow
def test_frozen_past_its_lease_then_thawed(idle: Serve) -> None:
    """Its late answer is fenced off and kept as evidence."""
    with ExitStack() as stack:
        host = stack.enter_context(a_host())
        host.slow_seconds = 3
        host.plan("slow_after")
        shop = a_shop(idle, stack.enter_context(idle.client()), host, attemptSeconds=120)
        frozen = stack.enter_context(an_executor(idle))
        created = shop.create()
        shop.approve(created["requestId"])
        wait_until(lambda: host.effects)
        os.kill(frozen.pid, signal.SIGSTOP)
        with an_executor(idle):
            data = settled(shop, created["requestId"])
            assert data["state"] == "approved"
            os.kill(frozen.pid, signal.SIGCONT)
            wait_until(lambda: attempts_of(shop, created["requestId"])[0]["late"])
        [attempt] = attempts_of(shop, created["requestId"])
        assert (attempt["outcome"], attempt["state"]) == ("unknown", "answered")
        assert b"Points Redeemed" in attempt["response"]
        assert settled(shop, created["requestId"]) == data
        assert host.effects == {reference_of(data): 1}


@pytest.mark.slow
def test_drained_on_sigterm(idle: Serve) -> None:
    """What is in flight is settled before the process ends."""
    with ExitStack() as stack:
        host = stack.enter_context(a_host())
        host.slow_seconds = 1.0
        host.plan("slow_after")
        shop = a_shop(idle, stack.enter_context(idle.client()), host, attemptSeconds=20)
        with an_executor(idle) as process:
            created = shop.create()
            shop.approve(created["requestId"])
            wait_until(lambda: host.effects)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        [attempt] = attempts_of(shop, created["requestId"])
        assert (attempt["state"], attempt["outcome"]) == ("answered", "succeeded")
        assert shop.state(created["requestId"]) == "approved"


PAYLOAD = {
    "hostname": "https://crm-nightly-new.cc.capillarytech.com", "path": "/v1.1/points/redeem", "method": "POST",
    "pathParams": {}, "queryParams": {"format": "json"}, "headers": {"content-type": "application/json"},
    "body": {"root": {"redeem": {
        "points_redeemed": "100", "customer": {"mobile": "9988776655"}, "external_reference_number": "REF-1"}}},
}  # fmt: skip


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    found = await connect(database_url)
    try:
        yield found
    finally:
        await found.close()


@pytest.mark.parametrize("cut_at", range(1, 5))
async def test_the_answer_to_a_commit_is_lost(connection: Any, database_url: str, tmp_path: Path, cut_at: int) -> None:
    """Whichever COMMIT's answer is lost (submit, decide, intent, outcome): one effect, one true answer."""
    await seed_organisation(connection)
    keys.create_keys(tmp_path / "keys.json")
    in_use = keys.KeysInUse(tmp_path / "keys.json", telemetry.keys_not_read)
    commits = 0

    def cut(side: str, kind: bytes, body: bytes) -> bool:
        nonlocal commits
        commits += (is_commit := side == "server" and kind == b"C" and body == b"COMMIT\0")
        return bool(is_commit and commits == cut_at)

    with a_host() as host:
        await connection.execute(
            "UPDATE host SET target = 'external', base_url = $1, plain_http = true, private = true, "
            "absent_after_seconds = 0.2", host.url,
        )  # fmt: skip
        async with a_proxy(database_url) as proxy:
            proxy.cut = cut
            async with (
                a_worker(proxy.url) as worker,
                open_executor(
                    worker.pool, worker.organisations, in_use, Limits(), telemetry.Telemetry(),
                    bounds=BOUNDS, owner="one",
                ) as executor,
            ):  # fmt: skip
                organisation = await worker.organisation()
                command = submit_command(organisation, reference="REF-1", payload=msgspec.json.encode(PAYLOAD))
                assert isinstance(await worker.submit(command), Request | Replayed)
                decide = decide_command(organisation, command.request_id, lease_owner="one", lease_seconds=30.0)
                decided = await worker.decide(decide)
                assert isinstance(decided, Request)
                assert decided.state is State.APPROVED
                await executor.carry_out(organisation.org_id, decided)
        # Whatever was lost, it has been found again with the same ids: nobody had to look anything up.
        assert await connection.fetchval("SELECT state FROM request") == "succeeded"
        assert host.effects == {"REF-1": 1}
    assert [row["outcome"] for row in await connection.fetch("SELECT outcome FROM attempt")] == ["succeeded"]
    await invariants.check(connection)
