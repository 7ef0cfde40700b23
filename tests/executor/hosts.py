"""A host of the Intouch contract on a real socket, which fails to order and remembers every effect.

It serves from a thread of its own, so that neither the service nor a test that waits for it can hold it up.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

OK = "ok"


@dataclass
class Received:
    """One call as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class IntouchHost:
    """`choose` names the fault of each call; `effects` counts the redemptions by reference."""

    choose: Callable[[Received], str] = lambda _received: OK
    port: int = 0
    balance: int = 10**9
    slow_seconds: float = 3.0
    effects: Counter[str] = field(default_factory=Counter)
    rows: list[dict[str, Any]] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    look_ups: str = "ok"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def plan(self, *faults: str) -> None:
        """The next redemptions meet these faults, in this order; then none."""
        waiting = deque(faults)
        self.choose = lambda _received: waiting.popleft() if waiting else OK

    @property
    def redeemed(self) -> list[Received]:
        return [each for each in self.received if each.method == "POST"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                received = Received(method, target, headers, body)
                self.received.append(received)
                if not await self._answer(received, writer):
                    break
        writer.close()

    async def _answer(self, received: Received, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        if received.method == "GET":
            return self._look_up(received, writer)
        fault = self.choose(received)
        if fault == "cut_before":
            return False
        if fault in BEFORE:
            status, body, *headers = BEFORE[fault]
            return _write(writer, status, body, *headers)
        answer: object = self._redeem(json.loads(received.body)["root"]["redeem"])
        match fault:
            case "cut_after":
                return False
            case "500_after":
                return _write(writer, 500, {"oops": 1})
            case "garbage_after":
                return _write(writer, 200, b"<html>what")
            case "slow_after":
                await asyncio.sleep(self.slow_seconds)
            case _:
                pass
        return _write(writer, 200, answer)

    def _look_up(self, received: Received, writer: asyncio.StreamWriter) -> bool:
        if self.look_ups != "ok":
            return _write(writer, 500, {"broken": True})
        asked = parse_qs(urlsplit(received.target).query)["external_reference_number"][0]
        rows = [row for row in self.rows if row["external_reference_number"] == asked]
        status = {"success": True, "code": 200, "message": "ok"}
        points = {"customer": {"redemptions": {"points": {"point": rows}}}}
        return _write(writer, 200, {"response": {"status": status, **points}})

    def _redeem(self, item: dict[str, Any]) -> dict[str, Any]:
        reference = item["external_reference_number"]
        points = int(item["points_redeemed"])
        if any(row["external_reference_number"] == reference for row in self.rows):
            return _item(744, "Reference number already exists")
        if points > self.balance:
            return _item(818, "Current points are less than points requested for redemption")
        self.effects[reference] += 1
        row = {
            "redemption_id": f"r{len(self.rows):05d}",
            "external_reference_number": reference,
            "points_redeemed": points,
        }
        self.rows.append(row)
        return _item(800, "Points Redeemed", redemption_id=row["redemption_id"], points_redeemed=str(points))


class Recorded(IntouchHost):
    """Answers everything with the one answer that it was given."""

    answer: bytes = b""

    def tell(self, status: int, body: object, headers: dict[str, list[str]] | None = None) -> None:
        content = json.dumps(body, separators=(",", ":"), default=float).encode()
        sent = headers or {"Content-Type": ["application/json"]}
        if "Transfer-Encoding" in sent:
            content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
        else:
            sent = sent | {"Content-Length": [str(len(content))]}
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, values in sent.items() for value in values)]
        self.answer = "\r\n".join([*lines, "", ""]).encode() + content

    async def _answer(self, received: Received, writer: asyncio.StreamWriter) -> bool:  # noqa: ARG002
        writer.write(self.answer)
        return True


def _item(code: int, message: str, **facts: Any) -> dict[str, Any]:
    good = code == 800
    status = {"success": "true", "code": 200, "message": "Success"}
    if not good:
        status = {"success": "false", "code": 500, "message": "All requests have failed due to errors"}
    item = facts | {"item_status": {"success": "true" if good else "false", "code": code, "message": message}}
    return {"response": {"status": status, "responses": {"points": item}}}


BEFORE: dict[str, Any] = {
    "500_before": (500, {"oops": 1}),
    "503": (503, {}, "Retry-After: 0"),
    "503 for an hour": (503, {}, "Retry-After: 3600"),
    "521": (200, _item(521, "Customer is locked")),
    "401": (401, {"response": {"status": {"success": "true", "code": "401", "message": "Unauthorized"}}}),
    "400": (400, {"response": {"status": {"success": "false", "code": 400, "message": "Bad"}}}),
}


def _write(writer: asyncio.StreamWriter, status: int, body: object, *headers: str) -> bool:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json;charset=UTF-8", f"Content-Length: {len(content)}",
             "X-CAP-REQUEST-ID: 0123456789abcdef", "Set-Cookie: secret=1", *headers, "", ""]  # fmt: skip
    writer.write("\r\n".join(lines).encode() + content)
    return True


@contextmanager
def a_host(port: int = 0, host: IntouchHost | None = None) -> Iterator[IntouchHost]:
    """A host that listens meanwhile."""
    host = host or IntouchHost()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(host.serve, "127.0.0.1", port), loop).result()
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:

        async def end() -> None:
            server.close()
            for task in asyncio.all_tasks(loop) - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
