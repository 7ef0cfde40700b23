"""`counterfoil freeze`: over HTTP as a person, or on the database as an operator, who can never lift."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from counterfoil.application import freezes
from counterfoil.cli import freeze, remote
from counterfoil.cli.remote import Session
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
    """What answers every call with this, or with what this makes of its path, and remembers it."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append((self.command, self.path, dict(self.headers), json.loads(sent) if sent else None))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body(self.path) if callable(body) else body).encode())

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
def sign_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    monkeypatch.setenv("COUNTERFOIL_SESSION_FILE", str(tmp_path / "session"))

    def keep(url: str) -> None:
        remote.save(tmp_path / "session", Session(url, 51250, "ind.1", "checker@tipent.com", "md5", TOKEN))

    return keep


def test_a_person_freezes(sign_in: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    with a_service(200, {"data": SHOWN}) as (url, seen):
        sign_in(url)
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


def test_every_page_is_listed(sign_in: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    def page(path: str) -> object:
        is_last = path.endswith("&after=a%2Fb")
        return {"data": [SHOWN | {"freezeId": "2" if is_last else "1"}], "page": {"next": None if is_last else "a/b"}}

    with a_service(200, page) as (url, seen):
        sign_in(url)
        assert freeze.list_() == 0
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]
    assert len(seen) == 2


def test_what_the_service_says_is_told(sign_in: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    assert freeze.lift("x") == 1
    assert "counterfoil login" in capsys.readouterr().err
    with a_service(403, {"errors": [{"message": "no", "code": 2001}]}) as (url, _):
        sign_in(url)
        assert freeze.lift("x") == 1
    assert capsys.readouterr().err == "counterfoil: 2001: no\n"
    assert freeze.lift("x") == 1
    assert "does not answer" in capsys.readouterr().err


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
