"""`counterfoil freeze`: over HTTP as a person, or on the database as an operator, who can never lift."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from counterfoil.application import freezes
from counterfoil.cli import environment, freeze
from counterfoil.domain.freezes import Scope
from tests import invariants
from tests.builders import connect, seed_organisation

TOKEN = "e30.eyJvcmdJRCI6IDUxMjUwfQ.x"
SHOWN = {
    "freezeId": "f", "state": "frozen", "scope": "organisation", "target": "", "reason": "r", "placedBy": "E-1",
    "placedAt": "t", "liftProposedBy": None, "liftedBy": None,
}  # fmt: skip


@contextmanager
def a_service(status: int, body: object) -> Iterator[tuple[str, list[Any]]]:
    """What answers every call with this, and remembers it."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append((self.command, self.path, dict(self.headers), json.loads(sent) if sent else None))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_POST = do_GET  # noqa: N815 - as the library calls it

        def log_message(self, *_arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv(environment.TOKEN, TOKEN)
    monkeypatch.setenv(environment.CREDENTIALS, "ind.1:md5")
    return monkeypatch


def test_a_person_freezes(caller: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with a_service(200, {"data": SHOWN}) as (url, seen):
        caller.setenv(environment.URL, url + "/")
        assert freeze.place(Scope.TYPE, "points-redemption", reason="r") == 0
        assert freeze.lift("a/b") == 0
        assert freeze.list_(past=True) == 0
    assert capsys.readouterr().out == "f frozen: organisation, by E-1 since t: r\n" * 3
    assert [(method, path, body) for method, path, _, body in seen] == [
        ("POST", freeze.PATH, {"scope": "type", "target": "POINTS-REDEMPTION", "reason": "r"}),
        ("POST", f"{freeze.PATH}/a%2Fb/lift", {}),
        ("GET", f"{freeze.PATH}?limit=200&past=true", None),
    ]
    headers = {name.lower(): value for name, value in seen[0][2].items()}
    assert headers["x-cap-ui-auth-token"] == TOKEN
    assert headers["x-cap-api-auth-org-id"] == "51250"
    assert headers["authorization"] == "Basic aW5kLjE6bWQ1"


def test_what_the_service_says_is_told(caller: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with a_service(403, {"errors": [{"message": "no", "code": 2001}]}) as (url, _):
        caller.setenv(environment.URL, url)
        assert freeze.lift("x") == 1
    assert capsys.readouterr().err == "counterfoil: 2001: no\n"
    assert freeze.lift("x") == 1
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [(environment.URL, "", "set"), (environment.URL, "file:///x", "address"), (environment.TOKEN, "x.y", "no token")],
)
def test_what_is_missing_is_told(
    caller: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, said: str
) -> None:
    caller.setenv(environment.URL, "http://127.0.0.1:1")
    caller.setenv(name, value)
    assert freeze.list_() == 1
    assert said in capsys.readouterr().err


async def test_an_operator_freezes_on_the_database(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = await connect(database_url)
    try:
        await seed_organisation(connection)
        placed = await freezes.freeze_as_operator(database_url, 51250, Scope.UNIT, "50682286", "r", "root")
        assert not isinstance(placed, Exception)
        assert placed is not None
        assert placed.placed_by == "operator root"
        assert await connection.fetchval("SELECT version FROM organisation") == 2
        facts = json.loads(await connection.fetchval("SELECT facts FROM event WHERE kind = 'frozen'"))
        assert (facts["operator"], facts["target"]) == (True, "50682286")
        wrong = await freezes.freeze_as_operator(database_url, 51250, Scope.UNIT, "1", "r", "root")
        assert isinstance(wrong, Exception)
        assert await freezes.freeze_as_operator(database_url, 7, Scope.UNIT, "1", "r", "root") is None
        await invariants.check(connection)
    finally:
        await connection.close()
