"""The outermost layer: reads a request completely, finds its endpoint, answers, counts and logs.

Plain ASGI, because this runs for every request: what can be prepared is prepared once. Cookies are never read.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from counterfoil.domain.refusals import (
    Busy,
    InvalidPayload,
    OurFault,
    Refusal,
    TooLarge,
    WrongMediaType,
    WrongMethod,
)
from counterfoil.http import problems
from counterfoil.http.routing import NOTHING, SINGLE_HEADERS, Answer, Call, Context, Family, Router, family_of

QUERY_BYTES_MAX: Final = 8192
QUERY_FIELDS_MAX: Final = 100
CORRELATION_HEADER: Final = b"x-cap-request-id"
NO_ENDPOINT: Final = "none"
LINGER_SECONDS: Final = 5
"""How long a client that was refused may go on sending: closing on unread bytes would reset the connection,
and the answer would be lost."""

_HARDENING: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


class ClientGone(Exception):
    """The client closed the connection before its request was complete: there is nobody to answer."""


class Observer(Protocol):
    """What logs and metrics want to know about requests."""

    def answered(self, route: str, status: int, code: int, correlation_id: str, seconds: float) -> None:
        """A request was answered; `code` is that of the refusal, 0 when there was none."""

    def failed(self, route: str, correlation_id: str, error: BaseException) -> None:
        """A request met an error that nobody expected."""


class Edge:
    """The ASGI application. `context` is there between start-up and shutdown."""

    def __init__(self, router: Router, other: ASGIApp, observer: Observer, *, body_bytes_max: int) -> None:
        self._router = router
        self._other = other
        self._observer = observer
        self._body_bytes_max = body_bytes_max
        self.context: Context | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; lifespan events go to the framework."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        started_at = time.perf_counter()
        correlation_id = os.urandom(16).hex()
        family: Family = "contract"
        label = NO_ENDPOINT
        code = 0
        body_read = False
        try:
            family = family_of(scope["path"])
            route, params = self._router.find(scope["path"])
            family = route.family
            method = scope["method"]
            endpoint = route.endpoint(method)
            label = endpoint.label
            context = self._running()
            headers = _headers(scope)
            body = b""
            if endpoint.request is not None:
                _check_media_type(headers)
                body = await self._body(headers, receive)
                body_read = True
            client = scope["client"]
            call = Call(
                method, params, _query(scope["query_string"]), headers, body, correlation_id,
                client[0] if client else "", label, family,
            )  # fmt: skip
            answer = await endpoint.handler(context, call)
        except Refusal as refusal:
            code = refusal.code
            answer = problems.render(refusal, family)
            if isinstance(refusal, WrongMethod):
                answer = Answer(answer.status, answer.body, {"Allow": route.allow})
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - the last line of defence: whatever it is, it is answered
            code = OurFault.code
            self._observer.failed(label, correlation_id, error)
            answer = problems.render(
                OurFault(f"the service failed; tell its operator the number {correlation_id}"), family
            )
        more = not body_read and _announces_body(scope)
        await _send(answer, correlation_id, send, more=more)
        self._observer.answered(label, answer.status, code, correlation_id, time.perf_counter() - started_at)
        if more:
            await _drop_rest(receive)
            await send({"type": "http.response.body", "body": b""})

    def _running(self) -> Context:
        if self.context is None:
            raise Busy("the service is starting or stopping: send the same call again", retry_after_seconds=1)
        return self.context

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, however it is framed; never more of it in memory than the limit and one chunk."""
        announced = headers.get(b"content-length")
        if announced is not None and int(announced) > self._body_bytes_max:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._body_bytes_max:
                raise self._too_large()
            if not message.get("more_body", False):
                return chunk if not chunks else b"".join((*chunks, chunk))
            chunks.append(chunk)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is over {self._body_bytes_max} bytes: send less")


def _headers(scope: Scope) -> Mapping[bytes, bytes]:
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    if len(headers) != len(pairs):
        seen: set[bytes] = set()
        for name, _ in pairs:
            if name in seen and name in SINGLE_HEADERS:
                raise InvalidPayload("send this header once", name.decode("latin-1"))
            seen.add(name)
    return headers


def _check_media_type(headers: Mapping[bytes, bytes]) -> None:
    sent = headers.get(b"content-type", b"")
    if sent not in (b"application/json", b""):
        media_type, _, parameters = sent.lower().partition(b";")
        media_type = media_type.strip()
        charset = parameters.partition(b"charset=")[2].strip(b'" ')
        is_json = media_type in (b"", b"application/json", b"text/json") or (
            media_type.startswith(b"application/") and media_type.endswith(b"+json")
        )
        if not is_json or charset not in (b"", b"utf-8", b"utf8", b"us-ascii"):
            raise WrongMediaType("send the body as JSON in UTF-8, with Content-Type: application/json")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise WrongMediaType("send the body without Content-Encoding")


def _query(text: bytes) -> Mapping[str, list[str]]:
    if not text:
        return NOTHING
    if len(text) > QUERY_BYTES_MAX:
        raise InvalidPayload(f"the query string is over {QUERY_BYTES_MAX} bytes: send less")
    try:
        query = parse_qs(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise InvalidPayload(
            f"the query string must be percent-encoded UTF-8 with at most {QUERY_FIELDS_MAX} parameters"
        ) from None
    if b"%00" in text:
        raise InvalidPayload("the query string holds NUL: send real characters")
    return query


def _announces_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


async def _drop_rest(receive: Receive) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass


async def _send(answer: Answer, correlation_id: str, send: Send, *, more: bool) -> None:
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", answer.content_type),
        (b"content-length", b"%d" % len(answer.body)),
        (CORRELATION_HEADER, correlation_id.encode()),
        *_HARDENING,
    ]
    for name, value in answer.headers.items():
        headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))
    start: dict[str, Any] = {"type": "http.response.start", "status": answer.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": answer.body, "more_body": more})
