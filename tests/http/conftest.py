"""A running service: the real application in the real server, on a socket, with a database of the test's own."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import structlog
import uvloop

from counterfoil import telemetry
from counterfoil.application import keys, throttle
from counterfoil.application.passwords import hash_secret
from counterfoil.cli.serve import base_url, listen
from counterfoil.http.app import create_app
from counterfoil.http.server import make_server
from counterfoil.settings import Settings
from tests.builders import SECRET_MD5, Lot, seed_member, seed_organisation

ORG_ID = 51250
MAKER_NAME, CHECKER_NAME, PASSWORD = "tomswayer@tipent.com", "checker@tipent.com", "correct horse"
WORKFLOW = "/api_gateway/v2/request-workflow"
BASIC = "Basic " + base64.b64encode(f"ind.1:{SECRET_MD5}".encode()).decode()
SECRET_HASH, PASSWORD_HASH = hash_secret(SECRET_MD5), hash_secret(PASSWORD)


@dataclass(frozen=True)
class Service:
    """The service, and a client that sends the headers of the contract."""

    client: httpx.Client
    database_url: str
    settings: Settings

    def sql(self, statement: str, *arguments: Any) -> None:
        """Change the database behind the service's back, as another node would."""

        async def run() -> None:
            connection = await asyncpg.connect(self.database_url)
            try:
                await connection.execute(statement, *arguments)
            finally:
                await connection.close()

        asyncio.run(run())

    def administer(self, statement: str, *arguments: Any) -> None:
        """An administrative change: it raises the organisation's version."""
        self.sql(statement, *arguments)
        self.sql("UPDATE organisation SET version = version + 1")

    def token(self, user_name: str = MAKER_NAME, password: str = PASSWORD) -> str:
        answer = self.client.post(
            "/counterfoil/v1/ui-token", json={"orgId": ORG_ID, "userName": user_name, "password": password}
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["token"])

    def headers(self, token: str | None = None, **changes: str) -> dict[str, str]:
        found = {"Authorization": BASIC, "X-CAP-API-AUTH-ORG-ID": str(ORG_ID)}
        if token is not None:
            found["X-CAP-UI-AUTH-TOKEN"] = token
        return found | changes

    def create(self, token: str | None = None, **changes: str) -> httpx.Response:
        return self.client.post(
            f"{WORKFLOW}/POINTS-REDEMPTION", json=create_body(), headers=self.headers(token, **changes)
        )


def create_body() -> dict[str, Any]:
    """The contract's own create request."""
    task = {
        "hostname": "<https://crm-nightly-new.cc.capillarytech.com>",
        "path": "/v1.1/points/redeem",
        "method": "POST",
        "body": {"root": {"redeem": {"points_redeemed": "100", "customer": {"mobile": "9988776655"}}}},
        "headers": {"Authorization": BASIC, "content-type": "application/json"},
    }
    return {"entityInfo": {"tillId": "50682289"}, "payload": {"IntouchAPITask-Payload": task}}


def decide_body(request_id: str, verdict: str = "approved") -> dict[str, Any]:
    """A checker's decision."""
    decision = {"actionDecision": verdict, "actionMessage": "seen"}
    return {"requestId": request_id, "actionName": "AdminTask", "payload": {"AdminTask-Payload": decision}}


async def _seed(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await seed_organisation(connection, secret_hash=SECRET_HASH, rights=[])
        await connection.execute("UPDATE app_user SET password_hash = $1", PASSWORD_HASH)
        await seed_member(connection, [Lot(500_000)])
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def made_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys take a tenth of a second to make: each service of the run has a copy of the same."""
    path: Path = tmp_path_factory.mktemp("keys") / "keys.json"
    keys.create_keys(path)
    return path


@pytest.fixture
def start_service(database_url: str, tmp_path: Path, made_keys: Path) -> Iterator[Callable[..., Service]]:
    """Start the service with these settings; it ends with the test."""
    stops: list[Callable[[], None]] = []

    def start(**changes: Any) -> Service:
        fields: dict[str, Any] = {
            "database_url": database_url, "keys_file": tmp_path / "keys.json", "pool_size": 4, "drain_seconds": 5,
        }  # fmt: skip
        settings = Settings(**(fields | changes))
        shutil.copy(made_keys, settings.keys_path)
        asyncio.run(_seed(database_url))
        started = threading.Event()
        listening = listen("127.0.0.1", 0, 1)
        [socket] = listening.__enter__()
        server = make_server(
            create_app(settings), on_started=started.set, header_bytes_max=settings.header_bytes_max,
            request_seconds_max=settings.request_seconds_max, keep_alive_seconds=settings.keep_alive_seconds,
            drain_seconds=settings.drain_seconds, trusted_proxies=settings.trusted_proxies,
        )  # fmt: skip
        address = base_url(socket)
        thread = threading.Thread(target=lambda: uvloop.run(server.serve([socket])))
        thread.start()
        assert started.wait(20)
        client = httpx.Client(base_url=address, timeout=20)

        def stop() -> None:
            client.close()
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
            listening.__exit__(None, None, None)

        stops.append(stop)
        return Service(client, database_url, settings)

    yield start
    for stop in stops:
        stop()


@pytest.fixture
def logged() -> Iterator[io.BytesIO]:
    """What is logged from now on; ask for it before the service starts."""
    lines = io.BytesIO()
    telemetry.configure_logs("debug", lines)
    yield lines
    structlog.reset_defaults()
    logging.getLogger().handlers = []


@pytest.fixture
def long_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has to wait for guessing waits for longer than a slow machine takes for a test."""
    monkeypatch.setattr(throttle, "FIRST_DELAY_SECONDS", 60.0)


@pytest.fixture
def service(start_service: Callable[..., Service]) -> Service:
    """The service with the settings of the tests."""
    return start_service()


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The one error of a refusal in the contract's form, whose every key is checked."""
    body = json.loads(answer.content)
    assert list(body) == ["data", "errors", "warnings"]
    assert body["data"] is None
    assert body["warnings"] == []
    [error] = body["errors"]
    assert error["status"] is False
    return dict(error)
