"""The exact call that an approved request makes: where to, with which headers, and the bytes of its body.

The body is the stored form, byte for byte, but for the reference that makes a repeat harmless: where the
payload has none, `CF-<requestId>` is put into the bytes that are sent (design.md §7).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from counterfoil.domain.attempts import REPEATS, OutboundCall
from counterfoil.domain.organisations import Host
from counterfoil.domain.payload_types import TYPES
from counterfoil.domain.payloads import TASK, WITHHELD, parse_hostname
from counterfoil.domain.refusals import BadHeaders, InvalidPayload, Refusal

# What belongs to one connection or one encoding of the body, or makes another call of the one that was approved.
NOT_FORWARDED: Final = frozenset({
    "accept-encoding", "connection", "content-encoding", "content-length", "cookie", "cookie2", "expect", "forwarded",
    "host", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "set-cookie", "te",
    "trailer", "transfer-encoding", "upgrade", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
    "x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url",
})  # fmt: skip
# Taken out where the host entry brings its own credential.
CREDENTIALS: Final = frozenset({
    "authorization", "x-cap-api-auth-key", "x-cap-api-oauth-token", "x-cap-ui-auth-token",
})  # fmt: skip
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
_BLANKS: Final = frozenset(" \t\n\r")
_READ: Final = json.JSONDecoder(parse_float=Decimal).decode
_SCAN: Final = json.JSONDecoder(parse_float=str, parse_int=str)


def build_call(
    request_id: UUID,
    request_type: str,
    payload: bytes,
    headers: Mapping[str, str],
    host: Host,
    *,
    deadline_seconds: float,
    credential: Mapping[str, str] | None = None,
) -> OutboundCall | Refusal:
    """The call of a stored payload. `headers` are the real ones; `credential` replaces those that carry theirs."""
    text = payload.decode()
    content = _READ(text)
    url = _url(host, request_type, content)
    if isinstance(url, Refusal):
        return url
    sent = _headers(headers, credential)
    if isinstance(sent, Refusal):
        return sent
    body, _ = _with_reference(request_id, request_type, text)
    return OutboundCall(
        request_id, request_type, content["method"].upper(), url, sent, body.encode(), host, deadline_seconds
    )


def sent_reference(request_id: UUID, request_type: str, payload: bytes) -> str | None:
    """The reference that the call carries: the payload's own, else ours; None where the type has none."""
    return _with_reference(request_id, request_type, payload.decode())[1]


def _url(host: Host, request_type: str, content: Mapping[str, Any]) -> str | Refusal:
    base = host.base_url
    if base is None:
        address = parse_hostname(content["hostname"])
        if address is None:
            return InvalidPayload(f"{TASK}.hostname cannot be called", f"{TASK}.hostname")
        scheme, name, port = address
        base = f"{scheme}://{name}" if port == (443 if scheme == "https" else 80) else f"{scheme}://{name}:{port}"
    query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in (content.get("queryParams") or {}).items())
    # What the payload says was checked to fill to this very path; nothing of it is filled a second time.
    return base.rstrip("/") + TYPES[request_type].path + (f"?{query}" if query else "")


def _quoted(value: object) -> str:
    return quote("" if value is None else str(value), safe="")


def _headers(
    headers: Mapping[str, str], credential: Mapping[str, str] | None
) -> tuple[tuple[str, str], ...] | BadHeaders:
    drop = NOT_FORWARDED | {
        each.strip().lower()
        for name, value in headers.items()
        if name.lower() == "connection"
        for each in value.split(",")
    }
    if credential is not None:
        drop |= CREDENTIALS | {name.lower() for name in credential}
    kept = [(name, value) for name, value in headers.items() if name.lower() not in drop]
    kept += (credential or {}).items()
    if all(name.lower() != "content-type" for name, _ in kept):
        kept.append(("content-type", "application/json"))
    for name, value in kept:
        # Checked at submission as well: nothing that could begin a second header ever leaves.
        if not _NAME.fullmatch(name) or not value.isprintable() or WITHHELD in value:
            return BadHeaders(f"{TASK}.headers has one that cannot be sent", f"{TASK}.headers")
    return tuple(kept)


@lru_cache(256)  # asked for a request several times in a row: for its claim, its digest, its call and its end
def _with_reference(request_id: UUID, request_type: str, text: str) -> tuple[str, str | None]:
    """The body to send and the reference in it."""
    start, end = _spans(text, _skip(text, 0))["body"]
    place = REPEATS[request_type].reference
    if not place:
        return text[start:end], None
    at = start
    for name in place[:-1]:
        at = _spans(text, at)[name][0]
        if text[at] == "[":  # an array of one, as the redeem item may be
            at = _skip(text, at + 1)
    spans = _spans(text, at)
    ours = f"CF-{request_id}"
    known = spans.get(place[-1])
    if known is None:
        field = f"{json.dumps(place[-1])}:{json.dumps(ours)}"
        return f"{text[start:at]}{{{field}{',' if spans else ''}{text[_skip(text, at + 1) : end]}", ours
    value = json.loads(text[slice(*known)], parse_float=str, parse_int=str)
    if value not in ("", None):
        return text[start:end], str(value)
    return text[start : known[0]] + json.dumps(ours) + text[known[1] : end], ours


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in _BLANKS:
        at += 1
    return at


def _spans(text: str, at: int) -> dict[str, tuple[int, int]]:
    """Where the value of each member stands, in the object that begins at `at`."""
    spans = {}
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, at = _SCAN.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _SCAN.raw_decode(text, start)
        spans[name] = (start, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return spans
