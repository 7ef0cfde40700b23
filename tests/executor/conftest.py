"""A running service whose organisations execute on external hosts; waits are scaled down."""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.contract.serving import PROGRAM, Serve, broken_rules, environment_of, fetch
from tests.contract.shop import Member, Shop
from tests.executor.hosts import IntouchHost, Recorded, a_host

FAST = {"COUNTERFOIL_PACE_PERCENT": 10, "COUNTERFOIL_DECIDE_SECONDS_MAX": 15}
_org_ids = count(800_000)


@contextmanager
def a_service(server: Any, **variables: object) -> Iterator[Serve]:
    """`counterfoil serve` on a database of its own; it must end well, sound and without a secret in its log."""
    name = f"executor_{uuid4().hex}"
    fetch(server.url, f'CREATE DATABASE "{name}" TEMPLATE "{server.template}"')
    folder = Path(tempfile.mkdtemp(prefix="executor-"))
    serve = Serve(folder, database_url=server.url_of(name), **FAST | variables)
    try:
        serve.start()
        try:
            yield serve
        finally:
            ended = serve.stop()
        assert ended == 0
        assert serve.logged_faults() == []
        assert serve.logged_secrets() == []
        assert broken_rules(serve) == [], "\n".join(broken_rules(serve))
    finally:
        fetch(server.url, f'DROP DATABASE "{name}" WITH (FORCE)')
        shutil.rmtree(folder)


@contextmanager
def a_sandbox(journal: Path, port: int = 0) -> Iterator[str]:
    """`counterfoil sandbox` as its user starts it; its address."""
    process = subprocess.Popen(
        [*PROGRAM, "sandbox", "--port", str(port), "--journal", str(journal)],
        env=environment_of(journal.parent, None), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = re.search(r"http://[0-9.:]+", process.stdout.readline())
        assert found
        yield found.group()
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="session")
def service(server: Any) -> Iterator[Serve]:
    with a_service(server) as serve:
        yield serve


@pytest.fixture
def host() -> Iterator[IntouchHost]:
    with a_host() as found:
        yield found


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    with a_host(host=Recorded()) as found:
        assert isinstance(found, Recorded)
        yield found


def external(host: IntouchHost, **changes: Any) -> dict[str, Any]:
    """The entry of the host table that leads the contract's host name to the test's own host."""
    return {
        "id": "crm", "url": "https://crm-nightly-new.cc.capillarytech.com", "target": "external", "baseUrl": host.url,
        "plainHttp": True, "private": True, "attemptSeconds": 10, "overallSeconds": 20, "absentAfterSeconds": 0.3,
    } | changes  # fmt: skip


def a_shop(serve: Serve, client: httpx.Client, host: IntouchHost, **changes: Any) -> Shop:
    """An organisation that executes on the test's host."""
    org_id = next(_org_ids)
    members = [Member(2_000_000 + number, f"97765{number:05d}", points=0) for number in range(20)]
    shop = Shop(serve, client, org_id, f"till.{org_id}", members=members).open()
    shop.change(hosts=[external(host, **changes)])
    return shop


@pytest.fixture
def make_shop(service: Serve, host: IntouchHost) -> Iterator[Callable[..., Shop]]:
    with service.client() as client:
        yield lambda **changes: a_shop(service, client, host, **changes)


def settled(shop: Shop, request_id: str, seconds: float = 60) -> dict[str, Any]:
    """The request when it has ended, or waits for people."""
    give_up_at = time.monotonic() + seconds
    while True:
        found = shop.get(request_id).json()["data"]
        waits = shop.serve.rows(
            "SELECT 1 FROM incident WHERE org_id = $1 AND request_id = $2::text::uuid AND settled_at IS NULL",
            shop.org_id, request_id,
        )  # fmt: skip
        if found["state"] != "AdminTask" or waits or time.monotonic() > give_up_at:
            return dict(found)
        time.sleep(0.1)


def attempts_of(shop: Shop, request_id: str) -> list[Any]:
    return shop.serve.rows(
        "SELECT * FROM attempt WHERE org_id = $1 AND request_id = $2::text::uuid ORDER BY number",
        shop.org_id,
        request_id,
    )


def reference_of(data: dict[str, Any]) -> str:
    return str(data["details"]["IntouchAPITask-Payload"]["body"]["root"]["redeem"]["external_reference_number"])
