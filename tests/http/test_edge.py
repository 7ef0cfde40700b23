"""What every answer has, and what is refused before any rule is asked."""

from __future__ import annotations

import io
import json
import re
import select
import socket
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from msgspec.structs import replace

from counterfoil.http import app, edge
from counterfoil.http.routing import Answer, Call, Context
from counterfoil.settings import Settings
from tests.http.conftest import WORKFLOW, Service, create_body, error_of
from tests.sockets import read_to_end

CREATE = f"{WORKFLOW}/POINTS-REDEMPTION"
JSON = {"content-type": "application/json"}


def connected(service: Service) -> socket.socket:
    url = service.client.base_url
    return socket.create_connection((url.host, url.port or 0), timeout=20)


def talk(service: Service, *parts: bytes, pause: float = 0) -> bytes:
    """Send bytes as they are, and read until the service closes the connection."""
    with connected(service) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        return read_to_end(connection)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/healthz"), ("GET", "/nothing"), ("PATCH", CREATE), ("POST", CREATE), ("GET", "/docs")],
)
def test_every_answer_has_a_number_of_its_own(service: Service, method: str, path: str) -> None:
    numbers = [service.client.request(method, path).headers["x-cap-request-id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", number) for number in numbers)
    assert numbers[0] != numbers[1]


def test_answers_are_not_guessed_at_and_not_kept(service: Service) -> None:
    answer = service.client.get("/healthz")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", [CREATE, f"{CREATE}/", f"/v2{CREATE}", f"/v2{CREATE.lower()}/"])
def test_a_path_may_be_spelled_in_these_ways(service: Service, path: str) -> None:
    answer = service.client.post(path, json=create_body(), headers=service.headers(service.token()))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ["/", "/x", "/API_GATEWAY/v2/request-workflow/requests", "/v2/v2/x", "//healthz"])
def test_an_unknown_path_is_json(service: Service, path: str) -> None:
    answer = service.client.get(f"{service.client.base_url}".rstrip("/") + path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert error_of(answer)["code"] == 2906


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", CREATE, "POST, PUT"),
        ("DELETE", CREATE, "POST, PUT"),
        ("OPTIONS", f"{WORKFLOW}/requests", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(service: Service, method: str, path: str, allow: str) -> None:
    answer = service.client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    assert answer.json()["errors"][0]["code"] == 2909


def test_head_is_get_without_the_body(service: Service) -> None:
    got, head = service.client.get("/healthz"), service.client.head("/healthz")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        "text/json",
        "",
        "application/vnd.api+json",
    ],
)
def test_json_is_taken(service: Service, media_type: str) -> None:
    headers = service.headers(service.token()) | {"content-type": media_type}
    answer = service.client.post(CREATE, content=json.dumps(create_body()), headers=headers)
    assert answer.status_code == 200, answer.text


def test_a_missing_media_type_is_fine(service: Service) -> None:
    answer = service.client.post(CREATE, content=json.dumps(create_body()), headers=service.headers(service.token()))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "media_type",
    [
        "application/xml",
        "text/xml",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "text/plain",
    ],
)
def test_anything_else_is_not(service: Service, media_type: str) -> None:
    answer = service.client.post(CREATE, content=b"<a/>", headers=service.headers() | {"content-type": media_type})
    assert answer.status_code == 415
    assert error_of(answer)["code"] == 2905


def test_a_compressed_body_is_not_taken(service: Service) -> None:
    answer = service.client.post(CREATE, content=b"x", headers=service.headers() | {"content-encoding": "gzip"})
    assert answer.status_code == 415


def test_a_body_over_the_limit_is_refused_whatever_its_framing(start_service: Callable[..., Service]) -> None:
    service = start_service(body_bytes_max=2000)

    def chunks(size: int) -> Iterator[bytes]:
        for _ in range(size // 100):
            yield b" " * 100

    for content in (b" " * 2001, chunks(2100), chunks(200_000)):
        answer = service.client.post(CREATE, content=content, headers=service.headers() | JSON)
        assert answer.status_code == 413
        assert error_of(answer)["code"] == 2904
    just_fits = service.client.post(CREATE, content=chunks(2000), headers=service.headers() | JSON)
    assert just_fits.status_code == 400  # blanks are no JSON, but nobody counts them as too many


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"a":"\\ud800"}', b'{"a":"\\u0000"}', b"[" * 9999]
)
def test_a_body_that_is_no_json_object_is_refused(service: Service, body: bytes) -> None:
    answer = service.client.post(CREATE, content=body, headers=service.headers(service.token()) | JSON)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == 2008


@pytest.mark.parametrize(
    "name", ["Authorization", "X-CAP-API-AUTH-ORG-ID", "X-CAP-UI-AUTH-TOKEN", "Idempotency-Key", "If-Match"]
)
def test_a_header_that_decides_comes_once(service: Service, name: str) -> None:
    answer = service.client.get(f"{WORKFLOW}/requests", headers=[(name, "1"), (name, "1")])
    assert answer.status_code == 400
    assert name.lower() in error_of(answer)["message"]


@pytest.mark.parametrize("query", ["limit=%ff", "userId=%00", "x=" + "y" * 9000, "&".join(["x=1"] * 101)])
def test_a_broken_query_string_is_refused(service: Service, query: str) -> None:
    answer = service.client.get(f"{WORKFLOW}/requests?{query}", headers=service.headers())
    assert answer.status_code == 400
    assert error_of(answer)["code"] == 2008


def test_a_parameter_that_comes_twice_is_refused(service: Service) -> None:
    answer = service.client.get(f"{WORKFLOW}/requests?limit=1&limit=2", headers=service.headers())
    assert error_of(answer)["message"].startswith("send the query parameter limit once")


def test_cookies_mean_nothing(service: Service) -> None:
    token = service.token()
    answer = service.client.get(
        f"{WORKFLOW}/requests", headers={"Cookie": f"Authorization=x; X-CAP-UI-AUTH-TOKEN={token}"}
    )
    assert answer.status_code == 401


def test_what_is_not_http_gets_the_form_of_every_refusal(service: Service) -> None:
    received = talk(service, b"HELLO\r\n\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert re.search(rb"x-cap-request-id: [0-9a-f]{32}", head)
    assert json.loads(body)["errors"][0]["code"] == 2008


def test_the_head_of_a_request_is_bounded(service: Service) -> None:
    received = talk(service, b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 40_000 + b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 400 ")
    long_head = b"".join(b"h%d: %b\r\n" % (number, b"y" * 100) for number in range(400))
    assert talk(service, b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + long_head).startswith(b"HTTP/1.1 400 ")


POST = b"POST %b HTTP/1.%d\r\nhost: x\r\nconnection: close\r\n%bcontent-length: 400000\r\n\r\n"
REFUSED_EARLY = (
    b"NONSENSE\r\n\r\n",
    b"GET /" + b"x" * 40_000,
    POST % (b"/nothing", 1, b""),
    POST % (b"/healthz", 1, b""),
    POST % (CREATE.encode(), 1, b"content-type: text/xml\r\n"),
    POST % (b"/v1.1/points/redeem", 1, b"content-encoding: gzip\r\n"),
    POST % (CREATE.encode(), 0, b""),
)


@pytest.mark.parametrize("first", REFUSED_EARLY)
def test_who_is_still_sending_reads_the_refusal(
    start_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    """Closing on unread bytes resets the connection: the client would lose the answer."""
    monkeypatch.setattr(edge, "LINGER_SECONDS", 60)
    with connected(start_service(body_bytes_max=2000)) as connection:
        connection.sendall(first)
        assert select.select([connection], [], [], 20)[0], "no answer before the rest is sent"
        connection.sendall(b"y" * 400_000)
        connection.shutdown(socket.SHUT_WR)
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 4")
    assert f"content-length: {len(body)}".encode() in head
    assert b"connection: close" in head


def test_what_was_whole_is_answered_whatever_follows_it(service: Service) -> None:
    """It was carried out: its client must not be told that nothing was understood."""
    received = talk(service, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nNONSENSE\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in received
    assert received.count(b"HTTP/1.1 ") == 1


def test_a_body_that_breaks_after_its_answer_gets_no_second_one(service: Service) -> None:
    with connected(service) as connection:
        connection.sendall(b"POST /nothing HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        assert select.select([connection], [], [], 20)[0]
        connection.sendall(b"ZZ\r\n")
        received = read_to_end(connection)
    assert received.startswith(b"HTTP/1.1 404 ")
    assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("first", [REFUSED_EARLY[0], REFUSED_EARLY[2]])
def test_but_not_for_ever(service: Service, monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    def send_for_ever() -> None:
        while True:
            connection.sendall(b"y" * 100)
            time.sleep(0.01)

    monkeypatch.setattr(edge, "LINGER_SECONDS", 0.1)
    with connected(service) as connection:
        connection.sendall(first)
        with pytest.raises(OSError, match=r"reset|pipe"):
            send_for_ever()


@pytest.mark.slow
def test_a_client_that_is_too_slow_is_left(start_service: Callable[..., Service]) -> None:
    service = start_service(request_seconds_max=1)
    for sent in (b"", b"GET /hea", b"POST " + CREATE.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"):
        started_at = time.monotonic()
        assert talk(service, sent, pause=2.5) == b""
        assert time.monotonic() - started_at < 10, "the connection was not closed"
    assert service.client.get("/healthz").status_code == 200


def test_pipelined_requests_are_answered_in_order(service: Service) -> None:
    ask = b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: %b\r\n\r\n"
    received = talk(service, ask % (b"/healthz", b"keep-alive") + ask % (b"/nothing", b"close"))
    assert received.index(b'"up"') < received.index(b'"code":2906')


def test_a_fault_is_answered_logged_once_and_not_shown(
    start_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, logged: io.BytesIO
) -> None:
    async def fail(_context: Context, _call: Call) -> Answer:
        raise RuntimeError("mobile 919988776655 is secret")

    broken = [
        replace(endpoint, handler=fail) if endpoint.path.endswith("/requests") else endpoint
        for endpoint in app.ENDPOINTS
    ]
    monkeypatch.setattr(app, "ENDPOINTS", tuple(broken))
    service = start_service()
    answer = service.client.get(f"{WORKFLOW}/requests?userId=not-to-be-shown")
    assert answer.status_code == 500
    error = error_of(answer)
    assert error["code"] == 2908
    assert answer.headers["x-cap-request-id"] in error["message"]
    assert b"secret" not in answer.content
    assert b"RuntimeError" not in answer.content
    assert service.client.get("/healthz").status_code == 200
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    [fault] = [line for line in lines if line["event"] == "fault"]
    assert fault["error"] == "builtins.RuntimeError"
    assert fault["id"] == answer.headers["x-cap-request-id"]
    assert any("fail" in frame for frame in fault["frames"])
    assert b"secret" not in logged.getvalue()
    assert b"not-to-be-shown" not in logged.getvalue()


@pytest.mark.anyio
async def test_who_comes_before_the_start_is_told_to_come_again() -> None:
    edge = app.create_app(Settings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://x") as client:
        answer = await client.get("/healthz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
