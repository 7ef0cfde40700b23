"""A server on loopback that answers byte for byte what a test says, and keeps what it got."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Answering = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Peer:
    """What the server of a test saw: connections, and each request that came whole."""

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)


def keep_port() -> socket.socket:
    """A socket that does not listen: until it is closed, nobody who asks for any port is given its one."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    return kept


def read_to_end(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def answer(status: int, body: bytes | str, headers: Sequence[str] = (), *, length: int | None = None) -> Answering:
    """Answer each request with this."""
    raw = body.encode() if isinstance(body, str) else body
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(raw) if length is None else length}", *headers, "", ""]

    async def write(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join(head).encode("latin-1") + raw)
        await writer.drain()
        if length is not None:
            writer.close()

    return write


def raw(content: bytes) -> Answering:
    """Answer with these bytes, whatever they are, and hang up."""

    async def write(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()
        writer.close()

    return write


def in_turn(*each: Answering) -> Answering:
    """Answer the first request with the first, the next with the next; the last one stays."""
    left = list(each)

    async def write(request: bytes, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, writer)

    return write


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    return head + (await reader.readexactly(length) if length else b"")


@asynccontextmanager
async def serving(answering: Answering, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """Serve on 127.0.0.1 until the test is through."""
    peer = Peer()
    open_now: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        open_now.add(writer)
        tasks.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while not writer.is_closing():
                request = await _request(reader)
                peer.requests.append(request)
                await answering(request, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for writer in open_now:
            writer.transport.abort()
        for task in tasks:
            if task is not None:
                task.cancel()
