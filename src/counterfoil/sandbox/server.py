"""The sandbox's server: one connection handler that can also do what no server should."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from email.utils import format_datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote

import httptools
from msgspec import Struct

from counterfoil.sandbox.endpoints import DUPLICATE, ENDPOINTS, Ask, Endpoint, Said, denied, is_denied, login_of
from counterfoil.sandbox.faults import NONE, Fault, Scenario, UnknownFault, fault_of, parse_faults, read_scenario
from counterfoil.sandbox.ledger import Ledger

HOST: Final = "127.0.0.1"
BODY_BYTES_MAX: Final = 1024 * 1024
CALLS_KEPT: Final = 100_000
HUGE_BYTES: Final = 8 * 1024 * 1024
DRIP_SECONDS: Final = 0.2
REOPEN_SECONDS: Final = 0.1
GARBAGE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n\x00\xfe{<html>not what you think\r\n"


class Call(Struct, frozen=True):
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Sandbox:
    """Everything that one sandbox knows."""

    ledger: Ledger
    clock: Callable[[], datetime]
    scenario: Scenario = field(default_factory=Scenario)
    attempts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    calls: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=CALLS_KEPT))
    listening: asyncio.Server | None = None
    port: int = 0
    _reopening: asyncio.Task[None] | None = None

    async def open(self, port: int) -> None:
        """Listen on loopback; `port` 0 takes a free one."""
        loop = asyncio.get_running_loop()
        self.listening = await loop.create_server(lambda: Connection(self), HOST, port)
        self.port = self.listening.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more."""
        if self._reopening is not None:
            self._reopening.cancel()
        if self.listening is not None:
            self.listening.close()

    def refuse(self, seconds: float) -> None:
        """Accept no connection for so long: whoever tries is refused by the system itself."""
        if self.listening is None or self._reopening is not None:
            return
        self.listening.close()
        self.listening = None
        self._reopening = asyncio.ensure_future(self._reopen(seconds))

    async def _reopen(self, seconds: float) -> None:
        while self.listening is None:
            await asyncio.sleep(seconds)
            seconds = REOPEN_SECONDS
            with suppress(OSError):  # somebody else was given the port meanwhile
                await self.open(self.port)
        self._reopening = None

    def choose_fault(self, call: Call, reference: str) -> tuple[Fault, int]:
        """The fault of this attempt, and its number; the header counts before the scenario."""
        content = repr(sorted(call.query.items())).encode() + call.body
        known_by = reference or sha256(content).hexdigest()
        attempt_key = (call.method, call.path, known_by)
        self.attempts[attempt_key] += 1
        attempt = self.attempts[attempt_key]
        # Reads carry the headers of the call that they look up: their faults have a header of their own.
        wanted = call.headers.get("x-sandbox-read-fault" if call.method == "GET" else "x-sandbox-fault")
        if wanted is not None:
            return fault_of(parse_faults(wanted), attempt), attempt
        return self.scenario.fault(call.method, call.path, reference, attempt, known_by), attempt


class Connection(asyncio.Protocol):
    """One client. Requests are answered one after the other."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.transport: asyncio.Transport
        # What a client asked for happens, also when it does not wait for the answer.
        self.parser = httptools.HttpRequestParser(self)
        self.url, self.body, self.headers = b"", bytearray(), dict[str, str]()
        self.waiting: deque[Call] = deque()
        self.answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Feed what came to the parser."""
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.url, self.body, self.headers = b"", bytearray(), {}

    def on_url(self, url: bytes) -> None:
        """Take up a piece of the URL."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take up a header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Take up a piece of the body."""
        self.body += body
        if len(self.body) > BODY_BYTES_MAX:
            self.transport.abort()

    def on_message_complete(self) -> None:
        """Answer, or wait until the request before is answered."""
        path, _, query = self.url.decode("latin-1").partition("?")
        params = dict(parse_qsl(query, keep_blank_values=True))
        method = self.parser.get_method().decode()
        self.waiting.append(Call(method, unquote(path), params, self.headers, bytes(self.body)))
        if self.answering is None:
            self._next()

    def _next(self) -> None:
        while self.waiting and self.answering is None and not self.transport.is_closing():
            self._begin(self.waiting.popleft())

    def _begin(self, call: Call) -> None:
        if call.path.startswith("/sandbox/"):
            self._write(control(self.sandbox, call), {})
            return
        endpoint = ENDPOINTS.get((call.method, call.path))
        if endpoint is None:
            self._write(Said(404, {"errors": [{"status": False, "code": 404, "message": "unknown resource"}]}), {})
            return
        try:
            body = json.loads(call.body, parse_float=Decimal) if call.body else None
            reference = endpoint.reference(body)
            fault, attempt = self.sandbox.choose_fault(call, reference)
        except (ValueError, RecursionError) as error:
            self._write(Said(400, {"errors": [{"status": False, "code": 400, "message": str(error)[:200]}]}), {})
            return
        note: dict[str, object] = {
            "method": call.method, "path": call.path, "reference": reference, "attempt": attempt,
            "fault": fault.kind, "effects": 0,
        }  # fmt: skip
        self.sandbox.calls.append(note)
        if fault is NONE:  # the way of nearly every call: no task for it
            said = self._take_effect(call, endpoint, body, fault, note)
            self._write(said, self._headers(call, endpoint, said))
            return
        self.answering = asyncio.ensure_future(self._answer(call, endpoint, body, fault, note))
        self.answering.add_done_callback(self._answered)

    def _answered(self, done: asyncio.Task[None]) -> None:
        self.answering = None
        if not done.cancelled():
            done.result()
            self._next()

    async def _answer(self, call: Call, endpoint: Endpoint, body: Any, fault: Fault, note: dict[str, object]) -> None:
        await asyncio.sleep(fault.delay_seconds)
        said = Said(200, {})
        if fault.has_effect or fault.kind in ("code", "duplicate"):
            said = self._take_effect(call, endpoint, body, fault, note)
        await asyncio.sleep(fault.delay_after_seconds)
        if self.transport.is_closing():
            return
        match fault.kind:
            case "none" | "code" | "duplicate":
                self._write(said, self._headers(call, endpoint, said))
            case "status":
                asked = {"Retry-After": ["1"]} if fault.number in (429, 503) else {}
                self._write(Said(fault.number, {"message": HTTPStatus(fault.number).phrase}), asked)
            case "cut" | "refuse":
                self.transport.abort()
                if fault.kind == "refuse":
                    self.sandbox.refuse(fault.refuse_seconds)
            case "garbage":
                self.transport.write(GARBAGE)
                self.transport.close()
            case "huge":
                self._write(Said(200, {"filler": "x" * HUGE_BYTES}), {})
            case "drip":
                await self._drip(said, self._headers(call, endpoint, said))
            case _:
                raise AssertionError(f"{fault.kind} is a fault without an answer (this is a bug)")

    def _take_effect(self, call: Call, endpoint: Endpoint, body: Any, fault: Fault, note: dict[str, object]) -> Said:
        login = login_of(call.headers.get("authorization", ""))
        if is_denied(login):
            return denied(endpoint)
        refuse_with = fault.number if fault.kind == "code" else 0
        if fault.kind == "duplicate":
            refuse_with = DUPLICATE.get(endpoint.kind, 744)
        ledger = self.sandbox.ledger
        before = len(ledger.effects)
        at = f"{self.sandbox.clock():%Y-%m-%d %H:%M:%S}"
        said = endpoint.answer(ledger, Ask(call.query, body, login, at, refuse_with))
        note["effects"] = len(ledger.effects) - before
        return said

    def _headers(self, call: Call, endpoint: Endpoint, said: Said) -> dict[str, list[str]]:
        """The header names of the contract's samples, with what is true here."""
        correlation = f"{len(self.sandbox.calls):032x}"
        if "BADGE" in endpoint.kind:
            return {"X-CAP-REQUEST-ID": [correlation], "X-Frame-Options": ["SAMEORIGIN", "SAMEORIGIN"]}
        good = said.code == 200
        return {
            "X-Application-Context": ["sandbox"],
            "Host": ["sandbox"],
            "uri_path": [call.path],
            "org_id": [call.headers.get("x-cap-api-auth-org-id", "0")],
            "status_code": [str(said.code)],
            "success": ["1" if good else "0"],
            "fail": ["0" if good else "1"],
            "X-CAP-REQUEST-ID": [correlation],
            "till": [login_of(call.headers.get("authorization", ""))],
            "X-Cap-RequestID": [correlation],
            "X-Frame-Options": ["SAMEORIGIN", "SAMEORIGIN"],
        }

    def _render(self, said: Said, headers: Mapping[str, list[str]]) -> tuple[bytes, bytes]:
        body = json.dumps(said.body, separators=(",", ":"), default=float).encode()
        lines = [f"HTTP/1.1 {said.status} {HTTPStatus(said.status).phrase if said.status != 521 else ''}"]
        lines.append(f"Date: {format_datetime(self.sandbox.clock(), usegmt=True)}")
        lines += ["Content-Type: application/json;charset=UTF-8", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, values in headers.items() for value in values]
        lines.append("Connection: keep-alive")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"), body

    def _write(self, said: Said, headers: Mapping[str, list[str]]) -> None:
        self.transport.write(b"".join(self._render(said, headers)))
        if not self.parser.should_keep_alive():
            self.transport.close()

    async def _drip(self, said: Said, headers: Mapping[str, list[str]]) -> None:
        head, body = self._render(said, headers)
        self.transport.write(head)
        for byte in body:
            await asyncio.sleep(DRIP_SECONDS)
            if self.transport.is_closing():
                return
            self.transport.write(bytes((byte,)))


def control(sandbox: Sandbox, call: Call) -> Said:
    """What tests read and set. Not part of the contract."""
    match call.method, call.path:
        case "GET", "/sandbox/effects":
            if not call.query.keys() <= {"kind", "reference", "member"}:
                return Said(400, {"message": "filter by kind, reference and member"})
            return Said(200, {"data": sandbox.ledger.told(call.query)})
        case "GET", "/sandbox/redemptions":
            return Said(200, {"data": sandbox.ledger.exported()})
        case "GET", "/sandbox/calls":
            return Said(200, {"data": list(sandbox.calls)})
        case "PUT", "/sandbox/scenario":
            try:
                sandbox.scenario = read_scenario(json.loads(call.body))
            except (UnknownFault, ValueError, RecursionError) as error:
                return Said(400, {"message": str(error)})
            sandbox.attempts.clear()
            return Said(200, {"data": {"rules": len(sandbox.scenario.rules)}})
        case _:
            return Said(
                404, {"message": "GET /sandbox/effects, /sandbox/redemptions or /sandbox/calls, PUT /sandbox/scenario"}
            )
