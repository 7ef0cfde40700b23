"""How many calls run at once to each host."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

Key = tuple[int, str]
NONE_KNOWN: Final = 1  # the limit of a host whose entry has gone


class Slots:
    """Slots by organisation and host. The latest limit counts for those that wait already, too."""

    def __init__(self) -> None:
        self._in_use: Counter[Key] = Counter()
        self._limits: dict[Key, int] = {}
        self._changed = asyncio.Condition()

    def in_use(self, key: Key) -> int:
        """The slots that are taken now."""
        return self._in_use[key]

    @asynccontextmanager
    async def taken(self, key: Key, limit: int) -> AsyncIterator[None]:
        """One slot of this host, as soon as fewer than the limit are in use."""
        async with self._changed:
            if self._limits.get(key) != limit:
                self._limits[key] = limit
                self._changed.notify_all()
            await self._changed.wait_for(lambda: self._in_use[key] < self._limits[key])
            self._in_use[key] += 1
        try:
            yield
        finally:
            self._in_use[key] -= 1
            async with self._changed:
                self._changed.notify_all()
