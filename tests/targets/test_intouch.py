"""What is known after a call, proved on real sockets; each row of the table of judgements among it."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

from counterfoil.domain.answers import ANSWER_BYTES_MAX
from counterfoil.domain.attempts import Failure, OutboundCall, Reply, Verdict, judge
from counterfoil.domain.look_ups import Absent, Found, NoVerdict
from counterfoil.domain.organisations import Host
from counterfoil.targets.intouch import Session, look_up, open_session, send
from tests.sockets import Answering, answer, in_turn, raw, serving

ENTRY = Host("points", "https", "points.example.com", 443, "external", plain_http=True, private=True)
REDEEM = "POINTS-REDEMPTION"
BODY = {
    "root": {
        "redeem": {
            "points_redeemed": "100",
            "customer": {"mobile": "919887766554"},
            "external_reference_number": "ACR-1",
        }
    }
}
DONE = (
    '{"response":{"status":{"success":"true","code":200,"message":"Success"},"responses":{"points":'
    '{"redemption_id":"7t4y2a","item_status":{"success":"true","code":800,"message":"Points Redeemed"}}}}}'
)


def refused(code: object, message: str = "no") -> str:
    item = {"success": "false", "code": code, "message": message}
    status = {"success": "false", "code": 500, "message": "All requests have failed due to errors"}
    return json.dumps({"response": {"status": status, "responses": {"points": {"item_status": item}}}})


def v2_error(code: int) -> str:
    return json.dumps({"errors": [{"status": False, "code": code, "message": "no"}], "warnings": []})


def make_call(port: int, kind: str = REDEEM, *, deadline: float = 20.0, host: Host = ENTRY) -> OutboundCall:
    method, path = {
        "CUSTOMER-STATUS-CHANGE": ("PUT", "/v2/customers/lookup/status?identifierName=mobile&identifierValue=1"),
        "RETRO-TRANSACTION": ("PUT", "/v2/transactions/retro"),
    }.get(kind, ("POST", "/v1.1/points/redeem?skip_validation=true&format=json"))
    body = BODY if kind == REDEEM else {"label": "Suspended"}
    return OutboundCall(
        UUID(int=7), kind, method, f"http://127.0.0.1:{port}{path}",
        (("Authorization", "Basic eDp5"), ("content-type", "application/json")),
        json.dumps(body).encode(), host, deadline,
    )  # fmt: skip


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with open_session() as opened:
        yield opened


async def cut(_request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def hold(_request: bytes, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def drip(_request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.05)


def v2(status: int, body: str) -> Answering:
    return answer(status, body)


# ---------------------------------------------------------------- the table, row by row

ROWS: list[tuple[str, Answering, str, bool, Verdict, int | None]] = [
    # 2xx, the body says success
    ("redeemed", answer(200, DONE), REDEEM, False, Verdict.SUCCEEDED, 800),
    ("goodwill", v2(201, '{"createdId":38,"warnings":[]}'), "GOODWILL-POINTS", False, Verdict.SUCCEEDED, None),
    ("earned", v2(200, '{"data":{"earnedBadgeId":"1"},"errors":[],"warnings":[]}'), "EARN-BADGE", False,
     Verdict.SUCCEEDED, None),
    ("issued", v2(200, '{"data":{"issuedBadges":[{}]},"errors":[],"warnings":[]}'), "ISSUE-BADGE", False,
     Verdict.SUCCEEDED, None),
    ("status", v2(200, '{"warnings":[]}'), "CUSTOMER-STATUS-CHANGE", False, Verdict.SUCCEEDED, None),
    ("retro", v2(201, '{"createdId":1,"warnings":[],"errors":[]}'), "RETRO-TRANSACTION", False,
     Verdict.SUCCEEDED, None),
    # 2xx, the body says a failure
    ("too few", answer(200, refused(818)), REDEEM, False, Verdict.FAILED, 818),
    ("code as double", answer(200, refused(816.0)), REDEEM, False, Verdict.FAILED, 816),
    ("code as string", answer(200, refused("816")), REDEEM, False, Verdict.FAILED, 816),
    ("401 in 200", answer(200, '{"response":{"status":{"success":"true","code":"401","message":"Unauthorized"}}}'),
     REDEEM, False, Verdict.FAILED, 401),
    ("v2 in 200", v2(200, v2_error(8015)), "CUSTOMER-STATUS-CHANGE", False, Verdict.FAILED, 8015),
    ("badge in 200", v2(200, v2_error(811)), "EARN-BADGE", False, Verdict.FAILED, 811),
    # try later
    *((f"later {code}", answer(200, refused(code)), REDEEM, False, Verdict.RETRY, code)
      for code in (521, 886, 887, 889, 894, 896, 898)),
    ("429", answer(429, "slow down", ["Retry-After: 7"]), REDEEM, False, Verdict.RETRY, 429),
    ("503", answer(503, "<html>"), REDEEM, True, Verdict.RETRY, 503),
    ("521", answer(521, ""), REDEEM, False, Verdict.RETRY, 521),
    ("521 in 400", answer(400, refused(521)), REDEEM, False, Verdict.RETRY, 521),
    ("badge later", v2(429, ""), "ISSUE-BADGE", False, Verdict.RETRY, 429),
    ("goodwill 429", v2(429, ""), "GOODWILL-POINTS", False, Verdict.UNKNOWN, 429),
    ("goodwill 503", v2(503, ""), "GOODWILL-POINTS", False, Verdict.UNKNOWN, 503),
    # already done
    ("744 first", answer(200, refused(744)), REDEEM, False, Verdict.FAILED, 744),
    ("744 again", answer(200, refused(744)), REDEEM, True, Verdict.ALREADY_DONE, 744),
    ("744 in 400", answer(400, refused(744)), REDEEM, True, Verdict.ALREADY_DONE, 744),
    ("744 in 500", answer(500, refused(744)), REDEEM, True, Verdict.UNKNOWN, 744),
    ("809 first", v2(400, v2_error(809)), "EARN-BADGE", False, Verdict.FAILED, 809),
    ("809 again", v2(400, v2_error(809)), "EARN-BADGE", True, Verdict.ALREADY_DONE, 809),
    ("1627 first", v2(400, v2_error(1627)), "RETRO-TRANSACTION", False, Verdict.FAILED, 1627),
    ("1627 again", v2(200, v2_error(1627)), "RETRO-TRANSACTION", True, Verdict.ALREADY_DONE, 1627),
    # a refused repeat proves nothing where the repeat is the look-up
    ("811 again", v2(400, v2_error(811)), "EARN-BADGE", True, Verdict.UNKNOWN, 811),
    ("818 again", answer(200, refused(818)), REDEEM, True, Verdict.FAILED, 818),
    # refused
    ("401", answer(401, ""), REDEEM, False, Verdict.FAILED, 401),
    ("403", v2(403, v2_error(4000)), "RETRO-TRANSACTION", False, Verdict.FAILED, 4000),
    ("404", answer(404, "<html>"), REDEEM, False, Verdict.FAILED, 404),
    ("408", answer(408, ""), REDEEM, False, Verdict.UNKNOWN, 408),
    ("816 in 400", answer(400, refused(816)), REDEEM, False, Verdict.FAILED, 816),
    # nobody knows
    ("500", answer(500, "oops"), REDEEM, False, Verdict.UNKNOWN, 500),
    ("500 with a body", answer(500, refused(818)), REDEEM, False, Verdict.UNKNOWN, 818),
    ("500 with success", answer(500, DONE), REDEEM, False, Verdict.UNKNOWN, 800),
    ("502", v2(502, ""), "CUSTOMER-STATUS-CHANGE", False, Verdict.UNKNOWN, 502),
    ("redirect", answer(302, "", ["Location: http://127.0.0.1:1/"]), REDEEM, False, Verdict.UNKNOWN, 302),
    ("empty", answer(204, ""), REDEEM, False, Verdict.UNKNOWN, None),
    ("html", answer(200, "<html>"), REDEEM, False, Verdict.UNKNOWN, None),
    ("other json", v2(200, '{"hello":1}'), "GOODWILL-POINTS", False, Verdict.UNKNOWN, None),
    ("a list", answer(200, "[]"), REDEEM, False, Verdict.UNKNOWN, None),
    ("no item", answer(200, '{"response":{"status":{"success":"true","code":200}}}'), REDEEM, False,
     Verdict.UNKNOWN, 200),
    ("contradiction", answer(200, DONE.replace("true", "false", 1)), REDEEM, False, Verdict.UNKNOWN, 800),
    ("success 818", answer(200, DONE.replace("800", "818")), REDEEM, False, Verdict.UNKNOWN, 818),
    ("failure 800", answer(200, refused(800)), REDEEM, False, Verdict.UNKNOWN, 800),
    ("two items", answer(200, json.dumps({"response": {"status": {"success": "true", "code": 200}, "responses": {
        "points": [{"item_status": {"success": "true", "code": 800}}] * 2}}})), REDEEM, False, Verdict.UNKNOWN, 200),
    ("in part", v2(200, '{"data":{"issuedBadges":[{}]},"errors":[{"code":1,"message":"x"}]}'), "ISSUE-BADGE", False,
     Verdict.UNKNOWN, 1),
    ("deep", answer(200, "[" * 100_000), REDEEM, False, Verdict.UNKNOWN, None),
    ("half a surrogate", answer(200, '{"createdId":"\\ud800"}'), "GOODWILL-POINTS", False, Verdict.UNKNOWN, None),
]  # fmt: skip


@pytest.mark.parametrize(("served", "kind", "repeated", "verdict", "code"), [row[1:] for row in ROWS],
                         ids=[row[0] for row in ROWS])  # fmt: skip
async def test_what_an_answer_means(
    session: Session, served: Answering, kind: str, *, repeated: bool, verdict: Verdict, code: int | None
) -> None:
    async with serving(served) as peer:
        answered = await send(session, make_call(peer.port, kind))
    assert isinstance(answered, Reply), answered
    judged = judge(kind, answered, repeated=repeated)
    assert (judged.verdict, judged.code) == (verdict, code)
    assert judged.message
    assert len(peer.requests) == 1


LOST: list[tuple[str, Answering, str]] = [
    ("cut", cut, "cut"),
    ("cut in the head", raw(b"HTTP/1.1 200 OK\r\nContent-"), "unreadable"),
    ("cut in the body", answer(200, DONE, length=5000), "cut"),
    ("chunk cut", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), "cut"),
    ("garbage", raw(b"\x00\xff not http at all\r\n\r\n"), "unreadable"),
    ("no answer", hold, "timeout"),
    ("too large", answer(200, b" " * (ANSWER_BYTES_MAX + 1)), "too_large"),
    ("endless", raw(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (ANSWER_BYTES_MAX + 70_000)), "too_large"),
    ("bomb", answer(200, gzip.compress(b" " * 50_000_000), ["Content-Encoding: gzip"]), "too_large"),
    ("bad gzip", answer(200, b"no gzip", ["Content-Encoding: gzip"]), "unreadable"),
    ("half a gzip", answer(200, gzip.compress(DONE.encode())[:-9], ["Content-Encoding: gzip"]), "unreadable"),
    ("brotli", answer(200, b"x", ["Content-Encoding: br"]), "unreadable"),
    ("long header", answer(200, DONE, ["X-Long: " + "x" * 20_000]), "unreadable"),
    ("many headers", answer(200, DONE, [f"X-{n}: x" for n in range(500)]), "unreadable"),
]


@pytest.mark.parametrize(("served", "kind"), [row[1:] for row in LOST], ids=[row[0] for row in LOST])
async def test_after_sending_nobody_knows(session: Session, served: Answering, kind: str) -> None:
    async with serving(served) as peer:
        answered = await send(session, make_call(peer.port, deadline=2.0 if served is hold else 20.0))
    assert isinstance(answered, Failure), answered
    assert (answered.sent, len(peer.requests)) == (True, 1)
    assert "skip_validation" not in answered.message  # no query: it may tell who the member is
    assert answered.message.isprintable()
    assert answered.kind in (kind, "cut") if kind == "unreadable" else answered.kind == kind
    assert judge(REDEEM, answered, repeated=False).verdict is Verdict.UNKNOWN


async def test_a_silence_ends_at_its_own_limit() -> None:
    async with serving(hold) as peer, open_session(read_seconds=0.5) as session:
        answered = await send(session, make_call(peer.port))
    assert isinstance(answered, Failure)
    assert (answered.sent, answered.kind) == (True, "timeout")


async def test_a_slow_drip_ends_at_the_deadline(session: Session) -> None:
    async with serving(drip) as peer:
        began = time.monotonic()
        answered = await send(session, make_call(peer.port, deadline=1.0))
    assert isinstance(answered, Failure)
    assert (answered.sent, answered.kind) == (True, "timeout")
    assert time.monotonic() - began < 5


async def test_a_refused_connection_sent_nothing(session: Session, kept_port: int) -> None:
    answered = await send(session, make_call(kept_port))
    assert isinstance(answered, Failure)
    assert (answered.sent, answered.kind) == (False, "connect")
    assert judge("GOODWILL-POINTS", answered, repeated=False).verdict is Verdict.RETRY


async def test_a_connection_that_is_never_made_sent_nothing() -> None:
    with socket.socket() as deaf:  # its queue is full: further connections hang
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.settimeout(0)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        await asyncio.sleep(0.05)
        for connect_seconds in (0.3, 30.0):
            async with open_session(connect_seconds=connect_seconds) as session:
                answered = await send(session, make_call(port, deadline=0.5))
            assert isinstance(answered, Failure)
            assert (answered.sent, answered.kind) == (False, "timeout")
        for filler in fillers:
            filler.close()


async def test_a_name_without_an_address_sent_nothing() -> None:
    async def nobody(_name: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async with open_session(resolve=nobody) as session:
        answered = await send(session, replace(make_call(1), url="http://points.example.com/v1.1/points/redeem"))
    assert isinstance(answered, Failure)
    assert (answered.sent, answered.kind) == (False, "resolve")


async def test_a_name_server_that_does_not_answer_sent_nothing() -> None:
    asked = 0

    async def silent(_name: str, _port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(30)
        return []

    async with open_session(resolve=silent) as session:
        call = replace(make_call(1, deadline=0.2), url="http://points.example.com/v1.1/points/redeem")
        answers = await asyncio.gather(*(send(session, call) for _ in range(20)))
    assert {(each.sent, each.kind) for each in answers if isinstance(each, Failure)} == {(False, "timeout")}
    assert asked == 1


async def test_who_gives_up_on_a_name_does_not_take_it_from_others() -> None:
    async def slow(_name: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(0.5)
        return ["127.0.0.1"]

    async with serving(answer(200, DONE)) as peer, open_session(resolve=slow) as session:
        url = f"http://points.example.com:{peer.port}/v1.1/points/redeem"
        calls = [replace(make_call(1, deadline=deadline), url=url) for deadline in (0.1, 20.0)]
        hasty, patient = await asyncio.gather(*(send(session, call) for call in calls))
    assert isinstance(hasty, Failure)
    assert isinstance(patient, Reply)


async def test_a_bomb_is_never_unpacked(session: Session) -> None:
    async with serving(answer(200, gzip.compress(b" " * 50_000_000), ["Content-Encoding: gzip"])) as peer:
        tracemalloc.start()
        answered = await send(session, make_call(peer.port))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert isinstance(answered, Failure)
    assert answered.kind == "too_large"
    assert peak < 5_000_000


# ---------------------------------------------------------------- connections


async def test_harmless_posts_reuse_a_connection(session: Session) -> None:
    async with serving(answer(200, DONE)) as peer:
        for _ in range(3):
            assert isinstance(await send(session, make_call(peer.port)), Reply)
    assert (peer.connections, len(peer.requests)) == (1, 3)


async def test_what_cannot_be_cleared_up_has_a_connection_of_its_own(session: Session) -> None:
    async with serving(answer(201, '{"createdId":38,"warnings":[]}')) as peer:
        for _ in range(2):
            assert isinstance(await send(session, make_call(peer.port, "GOODWILL-POINTS")), Reply)
    assert peer.connections == 2


@pytest.mark.parametrize("kind", [REDEEM, "GOODWILL-POINTS", "CUSTOMER-STATUS-CHANGE", "RETRO-TRANSACTION"])
async def test_nothing_is_sent_twice_by_itself(session: Session, kind: str) -> None:
    """Not even when a reused connection breaks, which HTTP libraries like to repeat for PUT."""
    async with serving(in_turn(answer(200, '{"warnings":[]}'), cut)) as peer:
        assert isinstance(await send(session, make_call(peer.port, kind)), Reply)
        lost = await send(session, make_call(peer.port, kind))
        assert isinstance(lost, Failure)
        assert lost.sent
    assert len(peer.requests) == 2


@pytest.mark.parametrize("pause", [0.0, 0.1])
async def test_an_answer_too_many_is_not_taken_for_the_next_one(session: Session, pause: float) -> None:
    whole = answer(200, DONE)
    other = answer(200, refused(818))
    written = asyncio.Event()

    async def twice(request: bytes, writer: asyncio.StreamWriter) -> None:
        await whole(request, writer)
        if b"ACR-1" in request:
            await asyncio.sleep(pause)
            await other(request, writer)
            written.set()

    async with serving(twice) as peer:
        call = make_call(peer.port)
        assert judge(REDEEM, await send(session, call), repeated=False).code == 800
        if pause:
            await written.wait()
            await asyncio.sleep(0.05)
        next_call = replace(call, body=call.body.replace(b"ACR-1", b"ACR-2"))
        assert judge(REDEEM, await send(session, next_call), repeated=False).code == 800
    assert peer.connections == 2


async def test_a_redirect_is_not_followed(session: Session) -> None:
    async with serving(answer(200, DONE)) as target:
        location = f"Location: http://127.0.0.1:{target.port}/v1.1/points/redeem"
        for status in (301, 302, 303, 307, 308):
            async with serving(answer(status, "", [location])) as peer:
                answered = await send(session, make_call(peer.port))
            assert isinstance(answered, Reply)
            assert answered.status == status
    assert target.requests == []


async def test_cookies_and_the_environment_have_no_say(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept_port: int
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{kept_port}")
    netrc = tmp_path / "netrc"
    netrc.write_text("default login thief password thief\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with serving(answer(200, DONE, ["Set-Cookie: a=b; Path=/"])) as peer:
        for _ in range(2):
            call = make_call(peer.port)
            assert isinstance(await send(session, replace(call, headers=call.headers[1:])), Reply)
    for request in peer.requests:
        assert b"ookie" not in request
        assert b"uthorization" not in request


async def test_the_bytes_are_exactly_the_call_s(session: Session) -> None:
    async with serving(answer(200, DONE)) as peer:
        call = make_call(peer.port)
        assert isinstance(await send(session, replace(call, url=f"{call.url}&a=%2F%20%C3%A9&b=")), Reply)
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1.1/points/redeem?skip_validation=true&format=json&a=%2F%20%C3%A9&b= HTTP/1.1\r\n")
    assert body == call.body
    names = [line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert sorted(names) == [
        b"accept", b"accept-encoding", b"authorization", b"content-length", b"content-type", b"host", b"user-agent",
    ]  # fmt: skip
    assert f"Host: 127.0.0.1:{peer.port}".encode() in head


async def test_an_answer_is_kept_as_it_came(session: Session) -> None:
    headers = ["X-Frame-Options: SAMEORIGIN", "x-frame-options: SAMEORIGIN", "till: ind.1", "Set-Cookie: s3cret=1",
               "status_code: 744", "X-Application-Context: caf\xe9"]  # fmt: skip
    async with serving(answer(200, refused(744), headers)) as peer:
        answered = await send(session, make_call(peer.port))
    assert isinstance(answered, Reply)
    shown = answered.shown()
    assert shown["status"] == 200
    assert shown["body"] == json.loads(refused(744))
    assert shown["headers"] == {
        "Content-Length": [str(len(refused(744)))],
        "X-Application-Context": ["caf\xe9"],
        "status_code": ["744"],
        "till": ["ind.1"],
        "X-Frame-Options": ["SAMEORIGIN", "SAMEORIGIN"],
    }


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_an_answer_may_be_compressed_all_the_same(session: Session, encoding: str, pack: object) -> None:
    assert callable(pack)
    async with serving(answer(200, pack(DONE.encode()), [f"Content-Encoding: {encoding}"])) as peer:
        answered = await send(session, make_call(peer.port))
    assert isinstance(answered, Reply)
    assert answered.body == DONE.encode()


# ---------------------------------------------------------------- where a call may go


@pytest.mark.parametrize("private", [False, True])
async def test_a_private_address_needs_the_entry_s_word(session: Session, *, private: bool) -> None:
    async with serving(answer(200, DONE)) as peer:
        answered = await send(session, make_call(peer.port, host=replace(ENTRY, private=private)))
    assert isinstance(answered, Reply) is private
    assert peer.connections == private
    if isinstance(answered, Failure):
        assert (answered.sent, answered.kind) == (False, "address")


async def test_plain_http_needs_the_entry_s_word(session: Session) -> None:
    async with serving(answer(200, DONE)) as peer:
        answered = await send(session, make_call(peer.port, host=replace(ENTRY, plain_http=False)))
    assert isinstance(answered, Failure)
    assert (answered.sent, answered.kind, peer.connections) == (False, "address", 0)


async def test_one_bad_address_of_a_name_is_enough() -> None:
    async def mixed(_name: str, _port: int) -> Sequence[str]:
        return ["93.184.216.34", "169.254.169.254"]

    async with open_session(resolve=mixed) as session:
        call = replace(make_call(1, host=replace(ENTRY, private=True)), url="http://points.example.com/x")
        answered = await send(session, call)
    assert isinstance(answered, Failure)
    assert (answered.sent, answered.kind) == (False, "address")
    assert "169.254.169.254" in answered.message


async def test_a_name_is_asked_once_and_the_checked_address_is_called() -> None:
    """No rebinding: what would be told the second time is never asked for."""
    told = [["127.0.0.1"], ["127.0.0.2"]]

    async def rebinding(_name: str, _port: int) -> Sequence[str]:
        return told.pop(0)

    async with serving(answer(200, DONE)) as peer, open_session(resolve=rebinding) as session:
        call = replace(make_call(1), url=f"http://points.example.com:{peer.port}/v1.1/points/redeem")
        assert isinstance(await send(session, call), Reply)
    assert told == [["127.0.0.2"]]
    assert f"Host: points.example.com:{peer.port}".encode() in peer.requests[0]


async def test_the_next_address_is_tried_while_nothing_was_sent() -> None:
    async def two(_name: str, _port: int) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]  # nothing listens on the first

    async with serving(answer(200, DONE)) as peer, open_session(resolve=two) as session:
        call = replace(make_call(1), url=f"http://points.example.com:{peer.port}/v1.1/points/redeem")
        assert isinstance(await send(session, call), Reply)

    async def same(_name: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1", "127.0.0.1"]

    async with serving(cut) as peer, open_session(resolve=same) as session:
        call = replace(make_call(1), url=f"http://points.example.com:{peer.port}/v1.1/points/redeem")
        assert isinstance(await send(session, call), Failure)
    assert len(peer.requests) == 1


async def test_ipv6_addresses_are_called_as_well(session: Session) -> None:
    server = None
    with suppress(OSError):  # not every machine has it
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "::1", 0)
    if server is None:
        pytest.skip("no IPv6 here")
    port = server.sockets[0].getsockname()[1]
    async with server:
        lost = await send(session, replace(make_call(1), url=f"http://[::1]:{port}/v1.1/points/redeem"))
        assert isinstance(lost, Failure)
        assert lost.sent
        host = replace(ENTRY, private=False)
        answered = await send(session, replace(make_call(1, host=host), url=f"http://[::1]:{port}/x"))
    assert isinstance(answered, Failure)
    assert (answered.sent, answered.kind) == (False, "address")


@pytest.mark.parametrize("url", ["http://2130706433/x", "http://127.1/x", "http://0x7f000001/x", "http://u:p@127.0.0.1/x",
                                 "ftp://127.0.0.1/x", "http:///x", "/x"])  # fmt: skip
async def test_other_spellings_of_an_address_are_not_called(session: Session, url: str) -> None:
    answered = await send(session, replace(make_call(1), url=url))
    assert isinstance(answered, Failure)
    assert answered.sent is False


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A self-signed certificate for points.example.com, as PEM and in a file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "points.example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("points.example.com")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    file.write_bytes(private + made)
    return made.decode(), file


@pytest.fixture
def tls(certificate: tuple[str, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1])
    return context


async def loopback(_name: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_the_host_entry_s_own_certificates_are_trusted(
    tls: ssl.SSLContext, certificate: tuple[str, Path]
) -> None:
    names: list[str] = []
    tls.sni_callback = lambda _socket, name, _context: names.append(str(name))
    host = replace(ENTRY, plain_http=False, ca_pem=certificate[0])
    async with serving(answer(200, DONE), tls=tls) as peer, open_session(resolve=loopback) as session:
        call = replace(make_call(1, host=host), url=f"https://points.example.com:{peer.port}/v1.1/points/redeem")
        assert isinstance(await send(session, call), Reply)
    assert names == ["points.example.com"]
    assert f"Host: points.example.com:{peer.port}".encode() in peer.requests[0]


@pytest.mark.parametrize(
    ("name", "own", "kind"),
    [("points.example.com", False, "tls"), ("other.example.com", True, "tls"), ("127.0.0.1", True, "tls")],
)
async def test_a_certificate_that_does_not_fit_sent_nothing(
    tls: ssl.SSLContext, certificate: tuple[str, Path], name: str, *, own: bool, kind: str
) -> None:
    host = replace(ENTRY, ca_pem=certificate[0] if own else None)
    async with serving(answer(200, DONE), tls=tls) as peer, open_session(resolve=loopback) as session:
        answered = await send(session, replace(make_call(1, host=host), url=f"https://{name}:{peer.port}/x"))
    assert isinstance(answered, Failure)
    assert (answered.sent, answered.kind, peer.requests) == (False, kind, [])


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["no TLS", "silent"])
async def test_what_speaks_no_tls_or_stays_silent_sent_nothing(certificate: tuple[str, Path], greeting: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    host = replace(ENTRY, ca_pem=certificate[0])
    async with server, open_session(resolve=loopback, connect_seconds=0.4) as session:
        answered = await send(session, replace(make_call(1, host=host), url=f"https://points.example.com:{port}/x"))
    assert isinstance(answered, Failure)
    assert answered.sent is False


async def test_certificates_that_cannot_be_read_sent_nothing(session: Session) -> None:
    host = replace(ENTRY, ca_pem="no certificate")
    answered = await send(session, replace(make_call(1, host=host), url="https://127.0.0.1:1/x"))
    assert isinstance(answered, Failure)
    assert (answered.sent, answered.kind) == (False, "tls")


# ---------------------------------------------------------------- look-ups


def redemptions(*rows: Mapping[str, object], success: object = True) -> str:
    status = {"success": success, "code": 200, "message": "Success"}
    return json.dumps({"response": {"status": status, "customer": {"redemptions": {"points": {"point": rows}}}}})


OURS: dict[str, object] = {"external_reference_number": "ACR-1", "points_redeemed": 100, "redemption_id": "AfL1vt"}
LOOK_UPS: list[tuple[str, Answering, type]] = [
    ("found", answer(200, redemptions(OURS)), Found),
    ("found among others", answer(200, redemptions({"points_redeemed": 1}, OURS, success="true")), Found),
    ("absent", answer(200, redemptions()), Absent),
    ("others only", answer(200, redemptions({**OURS, "external_reference_number": "ACR-10"})), Absent),
    ("a page full of others", answer(200, redemptions(*[{"points_redeemed": 1}] * 500)), NoVerdict),
    ("other points", answer(200, redemptions({**OURS, "points_redeemed": 99})), NoVerdict),
    ("twice", answer(200, redemptions(OURS, OURS)), NoVerdict),
    ("failed", answer(200, redemptions(success=False)), NoVerdict),
    ("unreadable", answer(200, "<html>"), NoVerdict),
    ("404", answer(404, redemptions()), NoVerdict),
    ("500", answer(500, redemptions(OURS)), NoVerdict),
    ("cut", cut, NoVerdict),
    ("no list", answer(200, '{"response":{"status":{"success":true},"customer":{}}}'), NoVerdict),
    ("odd rows", answer(200, redemptions().replace("[]", "[1]")), NoVerdict),
]


@pytest.mark.parametrize(("served", "told"), [row[1:] for row in LOOK_UPS], ids=[row[0] for row in LOOK_UPS])
async def test_a_redemption_is_looked_up_by_its_reference(session: Session, served: Answering, told: type) -> None:
    async with serving(served) as peer:
        assert isinstance(await look_up(session, make_call(peer.port)), told)
    assert len(peer.requests) == 1
    assert peer.requests[0].startswith(
        b"GET /v1.1/customer/redemptions?mobile=919887766554&external_reference_number=ACR-1&points_limit=500&"
    )
    assert b"Authorization: Basic eDp5" in peer.requests[0]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"label":"suspended"}', Found),
        ('{"data":{"label":"Suspended"}}', Found),
        ('{"status":{"label":"Suspended"},"warnings":[]}', Found),
        ('{"label":"Active"}', Absent),
        ('{"label":null}', NoVerdict),
        ('{"errors":[{"code":8015}],"label":"Suspended"}', NoVerdict),
        ("{}", NoVerdict),
    ],
)
async def test_a_status_is_read(session: Session, body: str, told: type) -> None:
    async with serving(answer(200, body)) as peer:
        assert isinstance(await look_up(session, make_call(peer.port, "CUSTOMER-STATUS-CHANGE")), told)
    assert peer.requests[0].startswith(b"GET /v2/customers/lookup/status?identifierName=mobile&identifierValue=1 HTTP")


@pytest.mark.parametrize("kind", ["GOODWILL-POINTS", "EARN-BADGE", "ISSUE-BADGE", "RETRO-TRANSACTION"])
async def test_other_types_have_no_look_up(session: Session, kept_port: int, kind: str) -> None:
    assert isinstance(await look_up(session, make_call(kept_port, kind)), NoVerdict)
