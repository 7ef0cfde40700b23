"""The yardstick: what this server and framework can do at best with the same call.

    python -m bench.yardstick <number of the listening socket>     settings in the environment, as a worker of `serve`

It decodes the same body and stores it with one insert for all calls that gathered while the last insert was in
flight. No authentication, no rules, no other table, the shortest answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench import contract
from counterfoil.application import ids
from counterfoil.http.server import make_server
from counterfoil.settings import Settings, load_settings
from counterfoil.storage import database

TABLE = "CREATE TABLE yardstick (request_id uuid PRIMARY KEY, at timestamptz NOT NULL, body bytea NOT NULL)"
_INSERT = "INSERT INTO yardstick SELECT n.id, now(), n.body FROM unnest($1::uuid[], $2::bytea[]) AS n (id, body)"


class Store:
    """One queue; an idle one adds no latency."""

    def __init__(self, pool: database.Pool) -> None:
        self._pool = pool
        self._waiting: list[tuple[UUID, bytes, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def insert(self, request_id: UUID, body: bytes) -> None:
        """Return when it is committed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((request_id, body, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        await future

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            request_ids, bodies, futures = zip(*batch, strict=True)
            async with self._pool.acquire() as connection:
                await connection.execute(_INSERT, request_ids, bodies)
            for future in futures:
                future.set_result(None)
        self._task = None


def create_app(settings: Settings) -> Starlette:
    """The application of one worker."""
    stores: list[Store] = []

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        pool = await database.open_pool(str(settings.database_url), size=settings.pool_size)
        stores.append(Store(pool))
        yield
        await pool.close()

    async def create(request: Request) -> Response:
        body = await request.body()
        msgspec.json.decode(body)
        request_id = ids.uuid7()
        await stores[0].insert(request_id, body)
        answer = msgspec.json.encode({"data": {"requestId": str(request_id)}})
        return Response(answer, media_type="application/json")

    return Starlette(routes=[Route(contract.CREATE_PATH, create, methods=["POST"])], lifespan=lifespan)


def main() -> None:
    """Serve until SIGTERM, with the server and its settings that `serve` has."""
    settings = load_settings(os.environ)
    server = make_server(
        create_app(settings),
        on_started=lambda: print("ready", flush=True),
        header_bytes_max=settings.header_bytes_max,
        request_seconds_max=settings.request_seconds_max,
        keep_alive_seconds=settings.keep_alive_seconds,
        drain_seconds=settings.drain_seconds,
        trusted_proxies=settings.trusted_proxies,
    )
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
