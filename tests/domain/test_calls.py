"""What is sent for a stored payload: the address, the headers and every byte of the body."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.domain.attempts import OutboundCall
from counterfoil.domain.calls import build_call, sent_reference
from counterfoil.domain.organisations import Host
from counterfoil.domain.refusals import BadHeaders

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
OURS = f"CF-{ID}"
HOST = Host("points", "https", "api.example.com", 443, "external")
REDEEM = "POINTS-REDEMPTION"


def payload(body: object = None, kind_path: str = "/v1.1/points/redeem", **fields: Any) -> bytes:
    content = {
        "hostname": "<https://api.example.com/>", "path": kind_path, "method": "post", "pathParams": {},
        "queryParams": {"skip_validation": "true", "format": "json"},
        "body": {"root": {"redeem": {"points_redeemed": "1"}}} if body is None else body,
        "headers": {"Authorization": "Basic <withheld>"},
    }  # fmt: skip
    return json.dumps({**content, **fields}, separators=(",", ":"), ensure_ascii=False).encode()


def made(
    stored: bytes, headers: dict[str, str] | None = None, host: Host = HOST, kind: str = REDEEM, **more: Any
) -> Any:
    sent = {"Authorization": "Basic eDp5"} if headers is None else headers
    return build_call(ID, kind, stored, sent, host, deadline_seconds=5.0, **more)


def call(*args: Any, **more: Any) -> OutboundCall:
    built = made(*args, **more)
    assert isinstance(built, OutboundCall), built
    return built


# ---------------------------------------------------------------- where to


@pytest.mark.parametrize(
    ("hostname", "base_url", "url"),
    [
        ("<https://api.example.com/>", None, "https://api.example.com/v1.1/points/redeem"),
        ("https://API.example.com:443", None, "https://api.example.com/v1.1/points/redeem"),
        ("http://api.example.com:8080", None, "http://api.example.com:8080/v1.1/points/redeem"),
        ("x", "https://in.example.com", "https://in.example.com/v1.1/points/redeem"),
        ("x", "http://10.0.0.1:1900/intouch/", "http://10.0.0.1:1900/intouch/v1.1/points/redeem"),
    ],
)
def test_the_address_is_the_entry_s_base_with_the_path(hostname: str, base_url: str | None, url: str) -> None:
    host = Host("points", "https", "api.example.com", 443, "external", base_url=base_url)
    built = call(payload(hostname=hostname, queryParams={}), host=host)
    assert (built.method, built.url) == ("POST", url)


def test_parameters_keep_their_order_and_are_escaped() -> None:
    built = call(payload(queryParams={"z": "a b&c=d", "a": None, "m": "é#?/", "b": 1}))
    assert built.url.endswith("/redeem?z=a%20b%26c%3Dd&a=&m=%C3%A9%23%3F%2F&b=1")
    assert "?" not in call(payload(queryParams=None)).url


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=12), max_size=5))
def test_parameters_arrive_as_they_were_sent(params: dict[str, str]) -> None:
    url = urlsplit(call(payload(queryParams=params)).url)
    assert (url.netloc, url.path, url.fragment) == ("api.example.com", "/v1.1/points/redeem", "")
    assert dict(parse_qsl(url.query, keep_blank_values=True)) == params


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/{version}/points/redeem", {"version": "v1.1", "other": "x"}),
        ("/{x/../../internal/goodwill/?}/points/redeem", {"x/../../internal/goodwill/?": "v1.1"}),
        ("/v1.1/points/../../admin", {}),
        ("//evil.example.com/v1.1/points/redeem", {}),
    ],
)
def test_the_path_is_the_types_own_whatever_is_stored(path: str, params: dict[str, str]) -> None:
    """Submission proves that a payload's path fills to it; no name or value in it can lead anywhere else."""
    built = call(payload(kind_path=path, pathParams=params))
    assert built.url == "https://api.example.com/v1.1/points/redeem?skip_validation=true&format=json"


# ---------------------------------------------------------------- headers


def test_headers_go_as_they_are_but_for_those_of_the_connection() -> None:
    headers = {
        "Authorization": "Basic eDp5", "X-CAP-CLIENT-SIGNATURE": "jatin", "content-type": "application/json",
        "Host": "evil", "CONTENT-length": "1", "Transfer-Encoding": "chunked", "Connection": "close, X-Mine",
        "X-Mine": "1", "Cookie": "a=b", "TE": "trailers", "Expect": "100-continue", "Accept-Encoding": "br",
        "X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/admin", "Proxy-Authorization": "x",
    }  # fmt: skip
    assert call(payload(), headers).headers == (
        ("Authorization", "Basic eDp5"),
        ("X-CAP-CLIENT-SIGNATURE", "jatin"),
        ("content-type", "application/json"),
    )


def test_a_call_without_a_content_type_gets_one() -> None:
    assert call(payload(), {}).headers == (("content-type", "application/json"),)


def test_the_entry_s_own_credential_replaces_every_other() -> None:
    headers = {"authorization": "Basic eDp5", "X-CAP-API-OAUTH-TOKEN": "t", "x-key": "old", "accept": "*/*"}
    built = call(payload(), headers, credential={"Authorization": "Basic b3duOm93bg==", "X-Key": "new"})
    assert built.headers == (
        ("accept", "*/*"),
        ("Authorization", "Basic b3duOm93bg=="),
        ("X-Key", "new"),
        ("content-type", "application/json"),
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic x\r\nX-Evil: 1"},
        {"Authorization": "Basic x\n"},
        {"Authorization": "Basic \x00"},
        {"X-A\r\nX-Evil": "1"},
        {"X A": "1"},
        {"": "1"},
        {"Näme": "1"},
        {"Authorization": "Basic <withheld>"},
    ],
)
def test_a_header_that_could_be_two_is_refused(headers: dict[str, str]) -> None:
    assert isinstance(made(payload(), headers), BadHeaders)
    assert isinstance(made(payload(), {}, credential=headers), BadHeaders)


# ---------------------------------------------------------------- the body


@pytest.mark.parametrize(
    ("redeem", "sent"),
    [
        ('{"points_redeemed":1.50}', f'{{"external_reference_number":"{OURS}","points_redeemed":1.50}}'),
        ('{"external_reference_number":"","b":1}', f'{{"external_reference_number":"{OURS}","b":1}}'),
        ('{"b":"}{","external_reference_number":null}', f'{{"b":"}}{{","external_reference_number":"{OURS}"}}'),
        ('[{"a":1}]', f'[{{"external_reference_number":"{OURS}","a":1}}]'),
        ("{}", f'{{"external_reference_number":"{OURS}"}}'),
    ],
)
def test_a_missing_reference_is_put_into_the_bytes_sent(redeem: str, sent: str) -> None:
    stored = payload(body="@").replace(b'"@"', f'{{"root":{{"x":[1,2],"redeem":{redeem}}}}}'.encode())
    assert call(stored).body.decode() == f'{{"root":{{"x":[1,2],"redeem":{sent}}}}}'
    assert sent_reference(ID, REDEEM, stored) == OURS
    assert json.loads(call(stored).body)


@pytest.mark.parametrize("reference", ["ACR-1", 'é"\\', 123, 0, " "])
def test_a_reference_that_is_there_stays_byte_for_byte(reference: object) -> None:
    body = {"root": {"redeem": {"points_redeemed": "1", "external_reference_number": reference}}}
    stored = payload(body=body)
    assert call(stored).body in stored
    assert json.loads(call(stored).body) == body
    assert sent_reference(ID, REDEEM, stored) == str(reference)


@pytest.mark.parametrize("kind", ["EARN-BADGE", "ISSUE-BADGE"])
def test_badges_carry_their_request_id(kind: str) -> None:
    assert sent_reference(ID, kind, payload(body={"requestId": "r-1"})) == "r-1"
    assert json.loads(call(payload(body={"customerId": 1}), kind=kind).body) == {"requestId": OURS, "customerId": 1}


@pytest.mark.parametrize("kind", ["GOODWILL-POINTS", "CUSTOMER-STATUS-CHANGE", "RETRO-TRANSACTION"])
def test_other_types_carry_no_reference_of_ours(kind: str) -> None:
    stored = payload(body={"label": "Active"})
    assert call(stored, kind=kind).body == b'{"label":"Active"}'
    assert sent_reference(ID, kind, stored) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=5), JSON, max_size=4),
    st.dictionaries(st.text(max_size=5), JSON, max_size=3),
    st.none() | st.integers(0, 3),
)
def test_nothing_but_the_reference_is_ever_changed(
    item: dict[str, Any], root: dict[str, Any], indent: int | None
) -> None:
    body = {"root": {**root, "redeem": item}}
    stored = json.dumps({**json.loads(payload()), "body": body}, indent=indent).encode()
    sent = json.loads(call(stored).body)
    assert sent["root"]["redeem"].pop("external_reference_number") == OURS
    assert sent == body
