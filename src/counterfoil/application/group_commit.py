"""Gathers concurrent commands of one verb and organisation into one transaction.

While a transaction is in flight the next commands gather; then they go as one. An idle queue adds no
latency. An answer is given only after COMMIT.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from counterfoil.domain.refusals import Busy, OurFault
from counterfoil.storage import database
from counterfoil.storage.database import Pool, Tx

C = TypeVar("C")
R = TypeVar("R")

_WORTH_IT = 16  # commands
_CLASH_TRIES = 5
_PATIENCE_DIVISOR = 4  # to find out which command of a blocked batch waits takes less than to see that one does


class Watch(Protocol):
    """What the metrics want to know about the queues."""

    def batch(self, verb: str, size: int) -> None:
        """A batch goes to the database."""

    def waiting(self, verb: str, change: int) -> None:
        """Commands entered or left a queue."""

    def retry(self, verb: str, reason: str) -> None:
        """A batch is run again."""

    def fault(self, verb: str, error: BaseException) -> None:
        """A command failed for a reason that is ours."""


class Limits(Struct, frozen=True):
    """Bounds of the queues: waiting commands per organisation, commands per batch, time on a locked row.

    `lost_seconds` is how long a batch is tried again while the database is away.
    """

    queue_max: int = 1000
    batch_max: int = 32
    lock_timeout_ms: int = 2000
    in_flight_max: int = 2
    lost_seconds: float = 20.0


@dataclass(slots=True)
class _Queue(Generic[C, R]):
    waiting: deque[tuple[C, asyncio.Future[R]]] = field(default_factory=deque)
    in_flight: int = 0


class GroupCommit(Generic[C, R]):
    """The queues of one verb, one per organisation."""

    def __init__(
        self,
        verb: str,
        pool: Pool,
        run: Callable[[Tx, int, Sequence[C]], Awaitable[Sequence[R]]],
        limits: Limits,
        watch: Watch,
    ) -> None:
        self._verb = verb
        self._pool = pool
        self._run = run
        self._limits = limits
        self._watch = watch
        self._queues: dict[int, _Queue[C, R]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, org_id: int, command: C) -> R:
        """Queue one command and return its outcome after COMMIT; raises Busy when the queue is full."""
        queue = self._queues.get(org_id)
        if queue is None:
            queue = self._queues[org_id] = _Queue()
        if len(queue.waiting) >= self._limits.queue_max:
            raise Busy("too many requests are waiting: send the same call again shortly", retry_after_seconds=1)
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        queue.waiting.append((command, future))
        self._watch.waiting(self._verb, 1)
        if self._may_start(queue, queue.in_flight):
            queue.in_flight += 1
            task = asyncio.create_task(self._drain(org_id, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def drain(self) -> None:
        """Wait until everything that was accepted is answered."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _drain(self, org_id: int, queue: _Queue[C, R]) -> None:
        try:
            while self._may_start(queue, queue.in_flight - 1):
                size = min(len(queue.waiting), self._limits.batch_max)
                batch = [queue.waiting.popleft() for _ in range(size)]
                self._watch.waiting(self._verb, -size)
                await self._execute(org_id, batch, self._limits.lock_timeout_ms)
        finally:
            queue.in_flight -= 1
            if not queue.waiting and queue.in_flight == 0:
                self._queues.pop(org_id, None)

    def _may_start(self, queue: _Queue[C, R], in_flight: int) -> bool:
        """Beside a batch in flight another one is worth its round trips only when it is big."""
        waiting = len(queue.waiting)
        return waiting > 0 and (in_flight == 0 or (in_flight < self._limits.in_flight_max and waiting >= _WORTH_IT))

    async def _execute(self, org_id: int, batch: Sequence[tuple[C, asyncio.Future[R]]], lock_timeout_ms: int) -> None:
        """Run one batch to its end: outcomes to the callers, or halves of it when it cannot commit."""
        try:
            self._watch.batch(self._verb, len(batch))
            outcomes = await self._commit(org_id, [command for command, _ in batch], lock_timeout_ms)
        except database.LOST as error:  # nobody's command is at fault, so halves would fare no better
            for _, future in batch:
                self._answer(future, self._explain(error))
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it must hurt one command only
            if len(batch) == 1:
                self._answer(batch[0][1], self._explain(error))
                return
            if isinstance(error, database.BLOCKED):
                lock_timeout_ms = self._limits.lock_timeout_ms // _PATIENCE_DIVISOR
            middle = len(batch) // 2
            await self._execute(org_id, batch[:middle], lock_timeout_ms)
            await self._execute(org_id, batch[middle:], lock_timeout_ms)
            return
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)

    @staticmethod
    def _answer(future: asyncio.Future[R], error: Exception) -> None:
        if not future.done():
            future.set_exception(error)

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, (*database.BLOCKED, *database.CLASH)):
            return Busy("somebody else is changing the same rows: send the same call again", retry_after_seconds=1)
        if isinstance(error, database.LOST):
            return Busy(
                "the database went away, and whether this was stored is not known: look it up before you send it "
                "again, or send it with the Idempotency-Key that it had",
                retry_after_seconds=2,
            )
        self._watch.fault(self._verb, error)
        return OurFault("the service failed to carry this out; nothing was changed")

    async def _commit(self, org_id: int, commands: Sequence[C], lock_timeout_ms: int) -> Sequence[R]:
        """One transaction; again after a clash, and with the same ids after a lost connection.

        After a lost connection it is not known whether COMMIT arrived: the verb finds its own event ids
        under lock and then answers what was written.
        """
        clashes = losses = 0
        give_up_at = asyncio.get_running_loop().time() + self._limits.lost_seconds
        while True:
            try:
                async with database.transaction(self._pool, lock_timeout_ms=lock_timeout_ms) as tx:
                    return await self._run(tx, org_id, commands)
            except database.CLASH:
                clashes += 1
                self._watch.retry(self._verb, "clash")
                if clashes >= _CLASH_TRIES:
                    raise
                await asyncio.sleep(random.uniform(0, 0.01) * clashes)  # noqa: S311 - jitter, not a secret
            except database.LOST:
                losses += 1
                self._watch.retry(self._verb, "lost")
                if asyncio.get_running_loop().time() >= give_up_at:
                    raise
                await asyncio.sleep(min(0.05 * 2**losses, 0.5))
