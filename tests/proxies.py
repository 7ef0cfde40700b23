"""A proxy before PostgreSQL that counts what a client waits for and breaks connections where a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit


@dataclass
class Proxy:
    """What a client of `url` goes through.

    `cut` sees every message ("client" or "server", its type and body) before it is passed on; where it returns
    True both ends of that connection are closed instead.
    """

    url: str
    ready: int = 0
    closed: bool = False
    cut: Callable[[str, bytes, bytes], bool] = lambda _side, _type, _body: False
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def break_all(self) -> None:
        """Every connection is gone at once."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def serve(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed:
            writer.close()
            return
        pair = [writer]
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(address)
            pair.append(server_writer)
            self._writers.extend(pair)
            # The first message of a client has no type.
            size = await reader.readexactly(4)
            server_writer.write(size + await reader.readexactly(int.from_bytes(size, "big") - 4))
            await asyncio.gather(
                self._pass_on("client", reader, server_writer), self._pass_on("server", server_reader, writer)
            )
        except (asyncio.IncompleteReadError, OSError, ConnectionError):
            pass
        finally:
            for each in pair:
                each.close()

    async def _pass_on(self, side: str, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while True:
            head = await source.readexactly(5)
            body = await source.readexactly(int.from_bytes(head[1:], "big") - 4)
            if self.cut(side, head[:1], body):
                raise ConnectionAbortedError
            # The server is ready again: a client that waited for this has made one round trip.
            self.ready += side == "server" and head[:1] == b"Z"
            target.write(head + body)
            await target.drain()


@asynccontextmanager
async def a_proxy(url: str) -> AsyncIterator[Proxy]:
    """A proxy to the database of this URL, which must be reached by a Unix socket."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    address = f"{query['host'][0]}/.s.PGSQL.{query.get('port', ['5432'])[0]}"
    proxy = Proxy("")
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(address, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    user = parts.username or query.get("user", ["postgres"])[0]
    proxy.url = f"postgresql://{user}@127.0.0.1:{port}{parts.path}?sslmode=disable"
    try:
        yield proxy
    finally:
        server.close()
        proxy.break_all()
        for task in list(tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
