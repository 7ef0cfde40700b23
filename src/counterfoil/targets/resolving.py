"""Names to addresses: resolved once, every address checked, and then only those are connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Final

from counterfoil.domain.addresses import refused_address
from counterfoil.domain.organisations import Host

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
KEPT_SECONDS: Final = 10.0
NAMES_MAX: Final = 1000
ADDRESSES_MAX: Final = 8


class AddressRefused(Exception):
    """The host entry does not allow where its name leads to."""


async def resolve_name(name: str, port: int) -> Sequence[str]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Names:
    """Remembers answers for a moment and asks once for all who wait: a dead name server holds one thread, not all."""

    def __init__(self, resolve: Resolve = resolve_name) -> None:
        self._resolve = resolve
        self._known: dict[tuple[str, int], tuple[float, Sequence[str]]] = {}
        self._asked: dict[tuple[str, int], asyncio.Task[Sequence[str]]] = {}

    async def addresses(self, name: str, port: int, host: Host) -> Sequence[str]:
        """The addresses to connect to; raises AddressRefused if one is not allowed, gaierror if there are none."""
        found = await self._find(name, port)
        for address in found:
            refused = refused_address(address, private=host.private, link_local=host.link_local)
            if refused is not None:
                raise AddressRefused(f"{name}: {refused}, which the host entry {host.host_id} does not allow")
        return found[:ADDRESSES_MAX]

    async def _find(self, name: str, port: int) -> Sequence[str]:
        try:
            return [str(ip_address(name))]
        except ValueError:
            pass
        key = (name, port)
        now = asyncio.get_running_loop().time()
        until, known = self._known.get(key, (0.0, ()))
        if now < until:
            return known
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.ensure_future(self._ask(key))
            task.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(task)

    def _answered(self, key: tuple[str, int], done: asyncio.Task[Sequence[str]]) -> None:
        del self._asked[key]
        if not done.cancelled():
            done.exception()  # taken note of, even where all who waited have gone

    async def _ask(self, key: tuple[str, int]) -> Sequence[str]:
        found = await self._resolve(*key)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, f"{key[0]} has no address")
        if len(self._known) >= NAMES_MAX:
            self._known.clear()
        self._known[key] = (asyncio.get_running_loop().time() + KEPT_SECONDS, found)
        return found
