"""The HTTP server of one worker: uvicorn, with what it leaves open closed.

uvicorn with httptools bounds neither the head of a request nor the time a client takes to send one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from counterfoil.domain.refusals import InvalidPayload
from counterfoil.http import edge, problems

_TICKS_PER_SECOND = 10


class _Protocol(HttpToolsProtocol):
    """A connection: counts the bytes of a head, and knows since when it has been waiting for the client."""

    header_bytes_max: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.head_bytes = 0
        self.reading_since: float | None = time.monotonic()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.head_bytes = 0
        self.reading_since = time.monotonic()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.reading_since = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in the form of every other refusal, where it has had no answer yet."""
        cycle: RequestResponseCycle | None = self.cycle
        in_body = self.reading_since is not None and cycle is not None and cycle.scope is self.scope
        if cycle is not None and not cycle.response_complete and not in_body:
            cycle.keep_alive = False  # the request before this was whole: it has its answer, then the end
            self.flow.pause_reading()
            return
        if cycle is None or not (in_body and cycle.response_started):
            self.transport.write(_refusal(msg))
        self.flow.resume_reading()
        self.transport.set_protocol(_Refused(self.transport, self.loop))
        self.connection_lost(ConnectionAbortedError())

    def _count(self, size: int) -> None:
        self.head_bytes += size
        if self.head_bytes > self.header_bytes_max:
            # The parser turns this into "not HTTP", which is answered above.
            raise ValueError("the head of the request is too long")


def _refusal(message: str) -> bytes:
    answer = problems.render(InvalidPayload(message), "contract")
    head = b"content-type: application/json\r\ncontent-length: %d\r\nx-cap-request-id: %b\r\nconnection: close\r\n\r\n"
    return STATUS_LINE[400] + head % (len(answer.body), os.urandom(16).hex().encode()) + answer.body


class _Refused(asyncio.Protocol):
    """A connection that has had its last answer: drops what its client still sends, until it has read the answer."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        transport.write_eof()
        self._end = loop.call_later(edge.LINGER_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The client has gone, or its time is over."""
        self._end.cancel()


class Server(uvicorn.Server):
    """Tells when it serves, stops on SIGTERM, and closes connections whose client is too slow."""

    def __init__(self, config: uvicorn.Config, *, request_seconds_max: float, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._request_seconds_max = request_seconds_max
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell."""
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; once a second, end what takes too long to arrive."""
        if counter % _TICKS_PER_SECOND == 0:
            limit = time.monotonic() - self._request_seconds_max
            for connection in list(self.server_state.connections):
                since = getattr(connection, "reading_since", None)
                if since is not None and since < limit and connection.transport is not None:
                    connection.transport.close()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Only the supervisor's SIGTERM counts here: Ctrl-C reaches every process of the terminal."""

        def stop(_signal: int, _frame: FrameType | None) -> None:
            self.should_exit = True

        if threading.current_thread() is threading.main_thread():  # nobody else can have signals
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, stop)
        yield


def make_server(
    app: ASGIApp,
    *,
    on_started: Callable[[], None],
    header_bytes_max: int,
    request_seconds_max: int,
    keep_alive_seconds: int,
    drain_seconds: int,
    trusted_proxies: Sequence[str],
) -> Server:
    """A server for an application; its socket is handed over by who runs it."""
    config = uvicorn.Config(
        app,
        loop="uvloop" if os.name == "posix" else "asyncio",
        http=type("Protocol", (_Protocol,), {"header_bytes_max": header_bytes_max}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        timeout_keep_alive=keep_alive_seconds,
        timeout_graceful_shutdown=drain_seconds,
    )
    return Server(config, request_seconds_max=request_seconds_max, on_started=on_started)
