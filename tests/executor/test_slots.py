"""A host is called at most so often at once, by the latest word on how often."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from counterfoil.executor.slots import Slots

KEY = (1, "crm")


async def running(slots: Slots, limit: int, ended: asyncio.Event) -> None:
    async with slots.taken(KEY, limit):
        await ended.wait()


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("first", "then", "expected"), [(1, 3, 3), (3, 1, 1)])
async def test_a_new_limit_counts_for_who_waits(first: int, then: int, expected: int) -> None:
    slots, ended, later = Slots(), asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(first):
            tasks.create_task(running(slots, first, ended))
        await settle()
        for _ in range(5):
            tasks.create_task(running(slots, first, later))
        await settle()
        assert slots.in_use(KEY) == first
        tasks.create_task(running(slots, then, later))
        await settle()
        assert slots.in_use(KEY) == max(first, then)
        ended.set()
        await settle()
        assert slots.in_use(KEY) == expected
        later.set()
    assert slots.in_use(KEY) == 0


async def test_hosts_do_not_wait_for_each_other_and_who_gives_up_takes_nothing() -> None:
    slots = Slots()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(slots.taken(KEY, 1))
        await stack.enter_async_context(slots.taken((1, "other"), 1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stack.enter_async_context(slots.taken(KEY, 1)), 0.01)
    assert (slots.in_use(KEY), slots.in_use((1, "other"))) == (0, 0)
