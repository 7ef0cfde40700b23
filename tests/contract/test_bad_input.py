"""Everything wrong gets the contract's error, and nothing is stored but an audit line for refused access."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from counterfoil.domain import refusals
from counterfoil.http.ui_token import BODY_BYTES_MAX
from tests.contract import calls
from tests.contract.serving import CORRELATION, Serve
from tests.contract.shop import (
    CHECKER,
    CREATE,
    ITEM,
    MAKER,
    NOBODY,
    REDEEM,
    TASK,
    WORKFLOW,
    Shop,
    assert_refused,
    data_of,
    decision,
    encoded,
    set_at,
)
from tests.sockets import read_to_end

MIB = 2**20
CODES = Path(__file__).parent / "samples" / "error-codes"


@contextmanager
def nothing_stored(serve: Serve, audit_lines: int = 0) -> Iterator[None]:
    """Every row of every table is the same afterwards, but for so many new lines in the audit trail."""
    before = _tables(serve)
    yield
    after = _tables(serve)
    assert after.pop("event")[0] - before.pop("event")[0] == audit_lines
    assert after == before


def _tables(serve: Serve) -> dict[str, tuple[int, str]]:
    names = [row[0] for row in serve.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")]
    assert {"request", "decision", "hold", "journal", "posting", "redemption", "event", "idempotency_key"} <= set(names)
    sums = " UNION ALL ".join(
        f"SELECT '{name}', count(*), coalesce(md5(string_agg(md5(t::text), '' ORDER BY t::text)), '') FROM \"{name}\" t"  # noqa: S608
        for name in names
    )
    return {name: (count, digest) for name, count, digest in serve.rows(sums)}


def put_in(body: dict[str, Any], raw: str) -> bytes:
    """A create body with this text as the value of an unknown field."""
    return encoded(set_at(body, f"{TASK}.extra", "PUT-IN")).replace(b'"PUT-IN"', raw.encode("utf-8", "surrogatepass"))


DEEP = 100_000
BAD_JSON: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "empty": lambda _: b"",
    "blank": lambda _: b"  \n",
    "no JSON": lambda _: b"points=100",
    "cut": lambda body: encoded(body)[:-1],
    "followed by more": lambda body: encoded(body) + b"{}",
    "single quotes": lambda _: b"{'a': 1}",
    "comma": lambda body: encoded(body)[:-1] + b",}",
    "comment": lambda body: b"/* x */" + encoded(body),
    "array": lambda body: encoded([body]),
    "text": lambda body: encoded(json.dumps(body)),
    "null": lambda _: b"null",
    "number": lambda _: b"5",
    "BOM": lambda body: b"\xef\xbb\xbf" + encoded(body),
    "UTF-16": lambda body: json.dumps(body).encode("utf-16"),
    "invalid UTF-8": lambda body: put_in(body, '"PUT"').replace(b'"PUT"', b'"\xff"'),
    "overlong UTF-8": lambda body: put_in(body, '"PUT"').replace(b'"PUT"', b'"\xc0\xaf"'),
    "surrogate in UTF-8": lambda body: put_in(body, '"\ud800"'),
    "lone surrogate": lambda body: put_in(body, '"\\ud800"'),
    "second half alone": lambda body: put_in(body, '"\\udc00 x"'),
    "halves in the wrong order": lambda body: put_in(body, '"\\udc00\\ud800"'),
    "surrogate in a key": lambda body: put_in(body, '{"\\ud800": 1}'),
    "escaped NUL": lambda body: put_in(body, '"a\\u0000b"'),
    "escaped NUL in a key": lambda body: put_in(body, '{"\\u0000": 1}'),
    "raw NUL": lambda body: put_in(body, '"a\0b"'),
    "NUL between tokens": lambda body: put_in(body, "\0 5"),
    "raw control character": lambda body: put_in(body, '"a\nb"'),
    "duplicate key": lambda body: put_in(body, '{"a": 1, "a": 1}'),
    "duplicate key, escaped": lambda body: put_in(body, '{"a": 1, "\\u0061": 2}'),
    "duplicate envelope key": lambda body: encoded(body)[:-1] + b', "payload": {}}',
    "NaN": lambda body: put_in(body, "NaN"),
    "Infinity": lambda body: put_in(body, "-Infinity"),
    "1e400": lambda body: put_in(body, "1e400"),
    "1e-400": lambda body: put_in(body, "1e-400"),
    "1e999999999": lambda body: put_in(body, "1e999999999"),
    "1e99999999999999999999": lambda body: put_in(body, "1e99999999999999999999"),
    "1e301": lambda body: put_in(body, "1e301"),
    "0e999999": lambda body: put_in(body, "0e999999"),
    "400 digits": lambda body: put_in(body, "9" * 400),
    "100000 digits": lambda body: put_in(body, "9" * 100_000),
    "100000 decimals": lambda body: put_in(body, "0." + "9" * 100_000),
    "leading zero": lambda body: put_in(body, "01"),
    "plus": lambda body: put_in(body, "+1"),
    "hexadecimal": lambda body: put_in(body, "0x10"),
    "65 arrays": lambda body: put_in(body, "[" * 65 + "]" * 65),
    "65 objects": lambda body: put_in(body, '{"a":' * 65 + "1" + "}" * 65),
    "depth bomb of arrays": lambda _: b"[" * DEEP + b"]" * DEEP,
    "depth bomb of objects": lambda _: b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "open arrays": lambda _: b"[" * (MIB - 1),
    "depth bomb inside": lambda body: put_in(body, "[" * DEEP + "]" * DEEP),
}


@pytest.mark.parametrize("kind", BAD_JSON)
def test_bad_json_to_create(shop: Shop, kind: str) -> None:
    body = shop.body()
    with nothing_stored(shop.serve):
        assert_refused(shop.submit(BAD_JSON[kind](body)), 400, 2008)


@pytest.mark.parametrize("kind", BAD_JSON)
def test_bad_json_to_decide(shop: Shop, kind: str) -> None:
    """The same for the decision, here beside a good one."""
    created = shop.create()
    body = decision(created["requestId"]) | {"payload": {"IntouchAPITask-Payload": {}} | decision("")["payload"]}
    raw = BAD_JSON[kind](body)
    with nothing_stored(shop.serve):
        answer = shop.http.put(CREATE, content=raw, headers=shop.headers(CHECKER))
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"][0]["code"] in (2007, 2008)
    assert shop.state(created["requestId"]) == "AdminTask"


@pytest.mark.parametrize(
    "kind", ["depth bomb of arrays", "escaped NUL", "invalid UTF-8", "100000 digits", "lone surrogate"]
)
def test_bad_json_elsewhere(shop: Shop, kind: str) -> None:
    raw = BAD_JSON[kind](shop.body())
    with nothing_stored(shop.serve):
        for path, headers in (("/counterfoil/v1/ui-token", {}), (REDEEM, {"Authorization": shop.box})):
            too_long = path != REDEEM and len(raw) > BODY_BYTES_MAX
            answer = shop.http.post(path, content=raw, headers=headers)
            assert answer.status_code == (413 if too_long else 400)


@pytest.mark.parametrize(
    "raw",
    ["[" * 40 + "]" * 40, str(10**30), "-" + str(10**298), "1e300", "1e-300", "0." + "1" * 300, '"\\ud83d\\ude00"'],
)
def test_not_bad_at_all(shop: Shop, raw: str) -> None:
    """Just inside the limits: kept as it is."""
    answer = shop.submit(put_in(shop.body(), raw))
    request_id = data_of(answer)["requestId"]
    found = json.loads(answer.text)["data"]["details"]["IntouchAPITask-Payload"]["extra"]
    assert found == json.loads(raw)
    assert json.loads(shop.get(request_id).text)["data"]["details"]["IntouchAPITask-Payload"]["extra"] == found
    assert data_of(shop.decide(request_id))["state"] == "approved"


@pytest.mark.parametrize(
    "text",
    [
        "a\\u0000b",
        "\\ud800",
        "\\u0001",
        "\u202e\u2066",
        "'; DROP TABLE request; --",
        "${jndi:ldap://x}",
        "%s%n",
        "<script>",
    ],
)
def test_odd_texts(shop: Shop, text: str) -> None:
    """A text is refused or comes back as it was: in a note, a reference, an identifier, a till id."""
    for path in (
        f"{ITEM}.notes",
        f"{ITEM}.external_reference_number",
        f"{ITEM}.customer.mobile",
        f"{TASK}.queryParams.x",
    ):
        raw = encoded(set_at(shop.body(), path, "PUT-IN")).replace(b"PUT-IN", text.encode())
        answer = shop.submit(raw)
        if text in ("a\\u0000b", "\\ud800"):
            assert_refused(answer, 400, 2008)
        else:
            data_of(answer)
            assert json.dumps(json.loads(f'"{text}"'), ensure_ascii=False) in answer.text
            assert data_of(shop.decide(data_of(answer)["requestId"]))["state"] in ("approved", "failed")


# Sizes and forms of a body.


def test_a_body_of_just_one_mebibyte(shop: Shop) -> None:
    body = set_at(shop.body(), f"{TASK}.extra", "")
    room = MIB - len(encoded(body))
    filled = encoded(set_at(body, f"{TASK}.extra", "x" * room))
    assert len(filled) == MIB
    assert shop.submit(filled).status_code == 200
    with nothing_stored(shop.serve):
        assert_refused(shop.submit(filled[:-1] + b" }"), 413, 2904, str(MIB))


@pytest.mark.parametrize("size", [MIB + 1, 8 * MIB])
def test_a_chunked_body_that_is_too_long(shop: Shop, size: int) -> None:
    """Without a length beforehand: refused as soon as the limit is passed."""

    def chunks() -> Iterator[bytes]:
        for _ in range(size // 65_536):
            yield b" " * 65_536
        yield b" " * (size % 65_536)

    with nothing_stored(shop.serve):
        try:
            answer = shop.http.post(CREATE, content=chunks(), headers=shop.headers(MAKER))
        except (httpx.WriteError, httpx.ReadError):
            return  # answered and closed while the client was still sending
        assert_refused(answer, 413, 2904)


def test_a_chunked_body(shop: Shop) -> None:
    raw = encoded(shop.body())
    data_of(
        shop.http.post(CREATE, content=(raw[at : at + 7] for at in range(0, len(raw), 7)), headers=shop.headers(MAKER))
    )


def test_an_announced_length_that_is_too_long(shop: Shop) -> None:
    """Refused before anything of the body is read."""
    head = f"POST {CREATE} HTTP/1.1\r\nHost: x\r\nContent-Length: {50 * MIB}\r\n\r\n"
    status, headers, body = talk(shop.serve, head.encode())
    assert status == 413
    assert json.loads(body)["errors"][0]["code"] == 2904
    assert CORRELATION.fullmatch(headers["x-cap-request-id"])


@pytest.mark.parametrize(
    "media_type",
    [
        "application/xml", "text/xml; charset=utf-8", "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "text/plain", "application/json; charset=utf-16", "application/octet-stream", "json", "*/*",
    ],
)  # fmt: skip
def test_wrong_media_types(shop: Shop, media_type: str) -> None:
    for method, body in (("POST", shop.body()), ("PUT", decision("x"))):
        headers = shop.headers(MAKER) | {"Content-Type": media_type}
        with nothing_stored(shop.serve):
            answer = shop.http.request(method, CREATE, content=encoded(body), headers=headers)
        assert_refused(answer, 415, 2905, "application/json")


@pytest.mark.parametrize(
    "media_type",
    [
        None, "", "application/json", "application/json; charset=utf-8", 'application/json;charset="UTF-8"',
        "APPLICATION/JSON",
        "application/vnd.x+json", "text/json", "application/json; boundary=x",
    ],
)  # fmt: skip
def test_right_media_types(shop: Shop, media_type: str | None) -> None:
    """A missing one is fine when the body is JSON."""
    headers = shop.headers(MAKER) | ({} if media_type is None else {"Content-Type": media_type})
    data_of(shop.http.post(CREATE, content=encoded(shop.body()), headers=headers))


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "x"])
def test_a_compressed_body(shop: Shop, encoding: str) -> None:
    assert_refused(shop.submit(Content_Encoding=encoding), 415, 2905, "Content-Encoding")


# Paths and methods.


@pytest.mark.parametrize(
    "path",
    [
        "/", "/nothing", f"{WORKFLOW}", f"{WORKFLOW}/", f"{CREATE}/more", f"{CREATE}//", f"{WORKFLOW}/requests/x/y",
        "/api_gateway/v1/request-workflow/POINTS-REDEMPTION", f"/v1{CREATE}", f"/v2/v2{CREATE}", "/v2/nothing",
        "/API_GATEWAY/v2/request-workflow/requests", "/metrics/x", "/%2e%2e/etc/passwd", "/api_gateway%2Fv2",
        "/favicon.ico",
        "/\u00e9", "/%00", "/%ff", "/" + "x" * 5000, "/robots.txt", "/.env", "/docs/..%2f..%2fetc",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_paths(shop: Shop, method: str, path: str) -> None:
    assert_refused(shop.http.request(method, path, headers=shop.headers()), 404, 2906, "/docs")


def test_unknown_paths_of_other_families(shop: Shop) -> None:
    """In the form that the clients of those paths read."""
    v1 = shop.http.get("/v1.1/points/nothing")
    assert (v1.status_code, list(v1.json())) == (404, ["response"])
    own = shop.http.get("/counterfoil/v1/nothing")
    assert (own.status_code, own.json()["errors"][0]["code"]) == (404, 2906)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (CREATE, {"POST", "PUT"}),
        (f"/v2{CREATE}/", {"POST", "PUT"}),
        (f"{WORKFLOW}/requests", {"GET", "HEAD"}),
        (f"{WORKFLOW}/requests/d9df3b65-62a7-11ee-aa6d-0aaee4e533d2", {"GET", "HEAD"}),
        ("/healthz", {"GET", "HEAD"}),
        ("/openapi.json", {"GET", "HEAD"}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"])
def test_wrong_methods(shop: Shop, path: str, allowed: set[str], method: str) -> None:
    """405 with Allow: there is no delete, cancel or edit (dossier §1.2)."""
    if method in allowed:
        return
    with nothing_stored(shop.serve):
        answer = shop.http.request(method, path, headers=shop.headers(MAKER))
    assert_refused_of_any_family(answer, 405, 2909)
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_redeem_takes_post_only(shop: Shop) -> None:
    answer = shop.http.get(REDEEM, headers={"Authorization": shop.box})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def assert_refused_of_any_family(answer: httpx.Response, status: int, code: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["code"] == code


def test_head(shop: Shop) -> None:
    """As GET, without the body."""
    created = shop.create()
    for path in ("/healthz", f"{WORKFLOW}/requests/{created['requestId']}", f"{WORKFLOW}/requests"):
        got, head = (shop.http.request(method, path, headers=shop.headers()) for method in ("GET", "HEAD"))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize(
    "query",
    [
        "userId=%ff",
        "userId=%00",
        "a=%80",
        "x=" + "y" * 9000,
        "&".join(f"a{n}=1" for n in range(101)),
        "states=%ED%A0%80",
    ],
)
def test_wrong_queries(shop: Shop, query: str) -> None:
    assert_refused(shop.http.get(f"{WORKFLOW}/requests?{query}", headers=shop.headers()), 400, 2008, "query")


# What is no HTTP, or only half of it.


def talk(serve: Serve, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send these bytes and read the answer to its end."""
    url = urlsplit(serve.url)
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        received = read_to_end(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


@pytest.mark.parametrize(
    "raw",
    [
        b"NONSENSE\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost x\r\n\r\n", b"GET /healthz HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
    ],
)  # fmt: skip
def test_no_http(service: Serve, raw: bytes) -> None:
    """Answered in the form of every other refusal."""
    status, headers, body = talk(service, raw)
    assert status in (400, 404), body
    assert CORRELATION.fullmatch(headers["x-cap-request-id"])
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["errors"][0]["code"] in (2008, 2906)


def test_a_client_that_hangs_up(shop: Shop) -> None:
    """Half a body is no body: nothing is stored, and the service goes on."""
    url = urlsplit(shop.serve.url)
    raw = encoded(shop.body())
    head = f"POST {CREATE} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in shop.headers(MAKER).items())
    with nothing_stored(shop.serve):
        for part in (raw[:0], raw[: len(raw) // 2], raw[:-1]):
            with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
                connection.sendall(f"{head}\r\n".encode() + part)
        assert shop.http.get("/healthz").status_code == 200


# What is stored by a refusal, and which codes there are.


def test_refused_access_leaves_one_audit_line(shop: Shop) -> None:
    """And nothing else: the row of the line names the caller, not what was asked for."""
    body = shop.body()
    with nothing_stored(shop.serve, audit_lines=1):
        assert_refused(shop.submit(body, by=NOBODY, idempotency_key=uuid4().hex), 403, 2001)
    created = shop.create(body)
    with nothing_stored(shop.serve, audit_lines=2):
        for by in (NOBODY, MAKER):
            assert_refused(shop.decide(created["requestId"], by=by), 403, 2001)
    events = shop.http.get(f"/counterfoil/v1/requests/{created['requestId']}/events", headers=shop.headers())
    kinds = [(event["kind"], event["facts"].get("code")) for event in events.json()["data"]]
    assert kinds == [("submitted", None), ("decision_refused", 2001), ("decision_refused", 2001)]


GOODWILL = calls.url("GOODWILL-POINTS")


def _every_refusal(shop: Shop) -> Iterator[tuple[int, int, Callable[[], httpx.Response]]]:
    """HTTP status, code, and a call that gets it; each leaves the database as it was."""
    body, pending, done = shop.body(), shop.create()["requestId"], shop.create()["requestId"]
    shop.approve(done)
    key = uuid4().hex
    first = shop.body()
    shop.submit(first, idempotency_key=key)
    listed = f"{WORKFLOW}/requests"
    yield 400, 2002, lambda: shop.decide(done)
    yield 400, 2005, lambda: shop.submit(body, X_CAP_API_AUTH_ORG_ID="1")
    yield 400, 2007, lambda: shop.decide(str(uuid4()))
    yield 404, 2007, lambda: shop.get(str(uuid4()))
    yield 400, 2008, lambda: shop.submit({})
    yield 400, 2009, lambda: shop.submit(body, path=f"{WORKFLOW}/MILES")
    yield 400, 2011, lambda: shop.page(sortBy="x")
    yield 400, 2012, lambda: shop.page(sortOrder="x")
    yield 401, 2013, lambda: shop.submit(body, Authorization=None)
    goodwill = calls.body(shop, "GOODWILL-POINTS")
    yield 400, 2014, lambda: shop.submit(set_at(goodwill, f"{TASK}.body.earningEntityId", ""), path=GOODWILL)
    yield 400, 2015, lambda: shop.submit(set_at(goodwill, f"{TASK}.body.points", -5), path=GOODWILL)
    yield 400, 2022, lambda: shop.submit(set_at(body, f"{TASK}.path", "/{version}/points/redeem"))
    yield 400, 2023, lambda: shop.submit(set_at(body, f"{TASK}.headers.Authorization", "Basic <withheld>"))
    yield 400, 1061, lambda: shop.submit(body, X_CAP_API_ATTRIBUTION_LOOKUP="x")
    yield 409, 2901, lambda: shop.submit(body, idempotency_key=key)
    yield 412, 2902, lambda: shop.decide(pending, if_match='"0"')
    yield 413, 2904, lambda: shop.submit(b" " * (MIB + 1))
    yield 415, 2905, lambda: shop.submit(body, Content_Type="application/xml")
    yield 404, 2906, lambda: shop.http.get("/nothing")
    yield 405, 2909, lambda: shop.http.delete(listed)


# Where the codes are tested that need more than one call.
ELSEWHERE = {
    2001: "test_refused_access_leaves_one_audit_line: the one that stores something",
    2021: "test_deviations.py, D4",
    2903: "tests/e2e: the database is away",
    2907: "test_callers.py: guesses are slowed down",
    2908: "our fault: no test knows how",
    2910: "test_life.py: what can be frozen",
    3002: "test_types.py: goodwill without an expiry",
    4000: "test_oauth.py: a call outside the access group",
    320001: "test_oauth.py: the samples",
    8015: "test_points_api.py: no such member",
}
# Of set-ups that this version does not have, or never emitted (dossier §2.10).
NOT_EMITTED = {2018, 2019, 2020, 2024, 2026, 2027, 2028, 2029, 2030}


def test_every_code(shop: Shop) -> None:
    """Each with its status, in the envelope, with nothing stored."""
    calls = list(_every_refusal(shop))
    with nothing_stored(shop.serve):
        for status, code, call in calls:
            assert_refused(call(), status, code)
    tested = {code for _, code, _ in calls} | ELSEWHERE.keys()
    ours = {each.code for each in _tree(refusals.Refusal) if each.code}
    assert tested == ours
    documented = {int(code) for code in json.loads((CODES / "request-workflow.json").read_text())}
    assert documented - ours == NOT_EMITTED
    of_all_apis = {int(code) for code in json.loads((CODES / "global.json").read_text())}
    assert {code for code in ours - documented - of_all_apis if not 2901 <= code <= 2910} == {3002, 8015} - of_all_apis


def _tree(kind: type[refusals.Refusal]) -> Iterator[type[refusals.Refusal]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _tree(each)


def test_item_codes_say_what_the_points_api_says(shop: Shop) -> None:
    """The exact messages that the contract has for the items that this version can answer."""
    known = json.loads((CODES / "points.json").read_text())
    exact = known["exact_messages_seen_in_samples_or_message_columns"]
    member, reference = shop.member(), uuid4().hex
    good = {"points_redeemed": "1", "customer": {"mobile": member.mobile}, "external_reference_number": reference}
    items = (
        good,
        good,
        good | {"customer": {"mobile": "9000000001"}},
        good | {"points_redeemed": "5000", "external_reference_number": "x"},
    )
    found = [shop.redeem(item).json()["response"]["responses"]["points"]["item_status"] for item in items]
    assert [each["code"] for each in found] == [800, 744, 816, 818]
    assert found[0]["message"] == known["success"]["800"][0]
    for each in found[1:]:
        assert each["message"] == exact[str(each["code"])]


def test_messages_say_what_to_do(shop: Shop) -> None:
    """A message is a sentence for a person: it has words, and no trace of Python or SQL."""
    for _, code, call in _every_refusal(shop):
        message = call().json()["errors"][0]["message"]
        assert len(message.split()) >= 4, (code, message)
        assert not re.search(r"Traceback|Exception|asyncpg|SELECT|UPDATE |None\b|0x[0-9a-f]{6}", message), message
