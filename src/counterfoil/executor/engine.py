"""The executor of one process: claims what is due, makes the calls, settles the answers, keeps its leases.

Any number of processes may run one. A request belongs to whoever has its fence; a process that dies leaves a
lease that ends, and whoever takes the request then treats an open attempt as lost.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from time import monotonic  # the loop's own clock may be that of before a freeze: uvloop reads it once in a round
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
from msgspec import Struct

from counterfoil.application import attempts, executing, ids
from counterfoil.application.attempts import Answered, Begin, LookedUp, Postponed, Settle, Work
from counterfoil.application.group_commit import GroupCommit, Limits, Watch
from counterfoil.application.keys import KeysInUse
from counterfoil.application.operations import Pool
from counterfoil.application.organisations import Organisations, with_snapshot
from counterfoil.domain.attempts import Failure, Reply, judge
from counterfoil.domain.executions import Call, Pace, Search
from counterfoil.domain.look_ups import Absent, Found, NoVerdict
from counterfoil.domain.organisations import Host
from counterfoil.domain.refusals import Busy, Refusal
from counterfoil.domain.requests import Request
from counterfoil.executor.breakers import Breaker
from counterfoil.executor.slots import NONE_KNOWN, Slots
from counterfoil.executor.turns import Turns
from counterfoil.targets import intouch

SETTLE_TRIES: Final = 20
SERVER_ERROR: Final = 500
# What says nothing about the host: our keys, our reading of the payload, a lease that has ended.
OF_OURS: Final = frozenset({"build", "keys", "lease"})
UNPROVEN_CLAIMS: Final = 8  # at once, of a host that has not answered last time
SLOW_SECONDS: Final = 1.0
HELD_MAX: Final = 4  # times as many as calls that may be made, with those that are slow or being settled
GATHER_SECONDS: Final = 0.01  # after a request has ended, before its room is filled: others end with it


class Observer(Watch, Protocol):
    """What logs and metrics want to know about executions."""

    def attempted(self, org_id: int, host_id: str, outcome: str, seconds: float) -> None:
        """A call or a look-up has ended."""

    def breaker(self, org_id: int, host_id: str, *, is_open: bool) -> None:
        """A host is left alone, or called again."""

    def paused(self, reason: str | None) -> None:
        """Nothing is executed, for this reason; None: it is."""


class Bounds(Struct, frozen=True):
    """How much at once, how often, and how long a claim lasts without a heartbeat."""

    calls_max: int = 64
    lease_seconds: float = 30.0
    poll_seconds: float = 0.5
    drain_seconds: float = 30.0
    breaker_seconds: float = 5.0
    pace: Pace = msgspec.field(default_factory=Pace)


@dataclass(slots=True)
class Held:
    """A request that this process has claimed; `valid_until` is on this process's own clock."""

    org_id: int
    request_id: UUID
    fence: int
    host_id: str
    valid_until: float
    task: asyncio.Task[None] | None = None
    called_at: float | None = None
    settling: bool = False

    def is_busy(self, now: float) -> bool:
        """Whether it takes one of the calls that may be made at once."""
        return not self.settling and (self.called_at is None or now < self.called_at + SLOW_SECONDS)


class Executor:
    """What one process executes. `owner` is its name in the leases."""

    def __init__(
        self,
        pool: Pool,
        organisations: Organisations,
        keys: KeysInUse,
        session: intouch.Session,
        bounds: Bounds,
        limits: Limits,
        observer: Observer,
        owner: str,
    ) -> None:
        self.owner = owner
        self.lease_seconds = bounds.lease_seconds
        self._pool = pool
        self._organisations = organisations
        self._keys = keys
        self._session = session
        self._bounds = bounds
        self._observer = observer
        self._held: dict[tuple[int, UUID], Held] = {}
        self._slots = Slots()
        self._ended = asyncio.Event()
        self._turns = Turns(bounds.calls_max)
        self._breakers: dict[tuple[int, str], Breaker] = defaultdict(lambda: Breaker(bounds.breaker_seconds))
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()  # leases are kept until then
        self._begins: GroupCommit[Begin, Work | None] = GroupCommit(
            "begin", pool, with_snapshot(organisations, attempts.begin_attempts), limits, observer
        )
        self._settlements: GroupCommit[Settle, Work | None] = GroupCommit(
            "settle", pool, with_snapshot(organisations, attempts.settle_attempts), limits, observer
        )

    # ---- what the deciding process does with its own claim

    async def carry_out(self, org_id: int, request: Request) -> None:
        """Execute what this process has just claimed by its decision; returns when nothing is to be done at once.

        Whoever is cancelled here leaves the execution running.
        """
        held = self._hold(org_id, request.request_id, request.fence, request.host_id, self._lease_end())
        if held.task is not None:
            await asyncio.shield(held.task)

    def _lease_end(self, asked_at: float | None = None) -> float:
        # From before the statement that claims: the process must think its lease shorter than the database does.
        since = monotonic() if asked_at is None else asked_at
        return since + self._bounds.lease_seconds * 0.9

    def _hold(self, org_id: int, request_id: UUID, fence: int, host_id: str, valid_until: float) -> Held:
        known = self._held.get((org_id, request_id))
        if known is not None and known.fence >= fence:
            return known
        held = Held(org_id, request_id, fence, host_id, valid_until)
        self._held[org_id, request_id] = held
        held.task = asyncio.create_task(self._work(held))
        return held

    # ---- the loops

    async def run(self) -> None:
        """Claim and keep leases until stopped; what failed is told and tried again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._bounds.poll_seconds, self._claim, "claim", self._stopping))
            group.create_task(self._every(self._bounds.lease_seconds / 4, self._beat, "heartbeat", self._stopped))

    async def stop(self) -> None:
        """Claim nothing more; what is in flight is settled, and what is not by then is left to its lease."""
        self._stopping.set()
        try:
            tasks = [held.task for held in self._held.values() if held.task is not None]
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=self._bounds.drain_seconds)
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)
            await self._begins.drain()
            await self._settlements.drain()
        finally:
            self._stopped.set()

    async def _every(self, seconds: float, work: Callable[[], Any], name: str, until: asyncio.Event) -> None:
        while not until.is_set():
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - the database may be away: it is tried again
                if not isinstance(error, Busy | OSError):
                    self._observer.fault(name, error)
            with suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    async def _claim(self) -> None:
        """Take what is due, and more as soon as there is room again, as long as more may wait."""
        poll_at, versions = -inf, dict[int, int]()
        while not self._stopping.is_set():
            self._ended.clear()
            if is_poll := monotonic() >= poll_at:
                reason, versions = await executing.look_for_work(self._pool)
                self._observer.paused(reason)
                poll_at = monotonic() + self._bounds.poll_seconds
            if not await self._sweep(versions, poll_at, is_poll=is_poll):
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), self._bounds.poll_seconds)
            await asyncio.sleep(GATHER_SECONDS)

    async def _sweep(self, versions: Mapping[int, int], until: float, *, is_poll: bool) -> bool:
        """Take what is due, first of the organisations that were not served for longest; whether more may be due."""
        more = is_cut = False

        def room(org_id: int) -> int:
            nonlocal is_cut
            found = min(self._room(), self._turns.share(org_id, len(versions)))
            is_cut = found <= 0 or self._stopping.is_set() or monotonic() >= until
            return 0 if is_cut else found

        async for org_id, asked_at, claims, is_all in executing.claim_in_turn(
            self._pool, self._organisations, self._turns.in_order(versions), self.owner,
            self._bounds.lease_seconds, room, lambda org_id, host: self._free(org_id, host, is_poll=is_poll),
        ):  # fmt: skip
            for claim in claims:
                self._hold(org_id, claim.request_id, claim.fence, claim.host_id, self._lease_end(asked_at))
            self._turns.served(org_id, asked_at, is_all=is_all)
            more = more or (bool(claims) and not is_all)
        return more or is_cut

    def _room(self) -> int:
        """How many more calls there may be. Slow ones must not keep the others waiting: they count at first only."""
        now = monotonic()
        busy = sum(each.is_busy(now) for each in self._held.values())
        return min(self._bounds.calls_max - busy, self._bounds.calls_max * HELD_MAX - len(self._held))

    def _free(self, org_id: int, host: Host, *, is_poll: bool) -> int:
        """How many calls more to this host. Of what waits for one that does not answer a few are taken nevertheless."""
        breaker, in_use = self._breakers[org_id, host.host_id], self._slots.in_use((org_id, host.host_id))
        if breaker.is_open:  # to see whose time is over
            return min(host.concurrency, UNPROVEN_CLAIMS) if is_poll else 0
        return max(0, min(host.concurrency, host.concurrency if breaker.answers else UNPROVEN_CLAIMS) - in_use)

    async def _beat(self) -> None:
        by_organisation: dict[int, list[Held]] = defaultdict(list)
        for held in self._held.values():
            by_organisation[held.org_id].append(held)
        for org_id, several in by_organisation.items():
            valid_until = self._lease_end()
            kept = await executing.extend_leases(
                self._pool, org_id, self.owner, [(each.request_id, each.fence) for each in several],
                self._bounds.lease_seconds,
            )  # fmt: skip
            for held in several:
                held.valid_until = valid_until if held.request_id in kept else 0.0

    # ---- one request

    async def _work(self, held: Held) -> None:
        try:
            while await self._step(held):
                pass
        except Refusal:
            pass  # the database is away for too long: the lease ends, and somebody looks after the request
        except Exception as error:  # noqa: BLE001 - one request must not take the others along
            self._observer.fault("execute", error)
        finally:
            if self._held.get((held.org_id, held.request_id)) is held:
                del self._held[held.org_id, held.request_id]
            self._ended.set()

    async def _step(self, held: Held) -> bool:
        """One call or look-up; whether there is more to do at once."""
        async with self._slot(held):
            command = await self._attempt(held)
        if command is None:
            return False
        held.settling = True
        self._ended.set()
        settled = await self._settle(held.org_id, command)
        held.settling = False
        return settled is not None and settled.again

    async def _attempt(self, held: Held) -> Settle | None:
        """Do what is next; what came of it."""
        closed = self._breakers[held.org_id, held.host_id].seconds_closed_to(monotonic())
        if closed > 0:
            wait = closed * random.uniform(1.0, 1.5)  # noqa: S311 - jitter, not a secret
            return Postponed(ids.uuid7(), held.request_id, held.fence, wait, ids.salt())
        begin = Begin(ids.uuid7(), held.request_id, held.fence, self.owner, ids.salt())
        work = await self._begins.submit(held.org_id, begin)
        if work is None or work.step is None or work.host is None:
            return None
        self._organisations.forget(held.org_id, work.organisation_version)
        held.called_at = monotonic()
        try:
            if isinstance(work.step, Call):
                return await self._call(held, work, work.host, work.step)
            return await self._search(held, work, work.host, work.step)
        finally:
            held.called_at = None

    @asynccontextmanager
    async def _slot(self, held: Held) -> AsyncIterator[None]:
        """One of the calls that may run at once to a host."""
        organisation = await self._organisations.current(held.org_id)
        host = organisation.host(held.host_id) if organisation else None
        async with self._slots.taken((held.org_id, held.host_id), host.concurrency if host else NONE_KNOWN):
            yield

    async def _call(self, held: Held, work: Work, host: Host, step: Call) -> Answered:
        started_at = monotonic()
        call = executing.outbound_call(self._keys.now(), held.org_id, work, host)
        if isinstance(call, Failure):
            answer: Reply | Failure = call
        else:
            answer = await intouch.send(self._session, call, may_send=lambda: monotonic() < held.valid_until)
        seconds = monotonic() - started_at
        judgement = judge(work.request.request_type, answer, repeated=step.repeated, doubtful=step.doubtful)
        self._observer.attempted(held.org_id, held.host_id, judgement.verdict.value, seconds)
        if isinstance(answer, Reply) or answer.kind not in OF_OURS:
            self._count(held, works=isinstance(answer, Reply) and answer.status < SERVER_ERROR)
        return Answered(
            ids.uuid7(), held.request_id, held.fence, step.number, answer, judgement, seconds,
            self._bounds.pace, random.random(), ids.salt(),  # noqa: S311 - jitter, not a secret
        )  # fmt: skip

    async def _search(self, held: Held, work: Work, host: Host, step: Search) -> LookedUp:
        started_at = monotonic()
        call = executing.outbound_call(self._keys.now(), held.org_id, work, host)
        if isinstance(call, Failure):
            answer: Found | Absent | NoVerdict = NoVerdict(call.message)
        else:
            answer = await intouch.look_up(self._session, call)
        seconds = monotonic() - started_at
        self._observer.attempted(held.org_id, held.host_id, f"look_up_{type(answer).__name__.lower()}", seconds)
        if not isinstance(answer, NoVerdict):
            self._count(held, works=True)
        return LookedUp(
            ids.uuid7(), held.request_id, held.fence, step.number, step.attempt, answer, seconds,
            self._bounds.pace, ids.salt(),
        )  # fmt: skip

    async def _settle(self, org_id: int, command: Settle) -> Work | None:
        """Settle, patiently: what a host has answered is not to be had a second time."""
        for left in range(SETTLE_TRIES, 0, -1):
            try:
                return await self._settlements.submit(org_id, command)
            except Busy:
                if left == 1:
                    raise
                await asyncio.sleep(1)
        return None

    def _count(self, held: Held, *, works: bool) -> None:
        """Open or close the breaker of the host."""
        breaker = self._breakers[held.org_id, held.host_id]
        if not works:
            if breaker.failed(monotonic()):
                self._observer.breaker(held.org_id, held.host_id, is_open=True)
        elif breaker.is_open:
            self._observer.breaker(held.org_id, held.host_id, is_open=False)
            breaker.succeeded()
        else:
            breaker.succeeded()


@asynccontextmanager
async def open_executor(
    pool: Pool,
    organisations: Organisations,
    keys: KeysInUse,
    limits: Limits,
    observer: Observer,
    *,
    bounds: Bounds,
    owner: str,
) -> AsyncIterator[Executor]:
    """An executor that runs meanwhile; afterwards what is in flight is settled or left to its lease."""
    async with intouch.open_session() as session:
        executor = Executor(pool, organisations, keys, session, bounds, limits, observer, owner)
        running = asyncio.create_task(executor.run())
        try:
            yield executor
        finally:
            await executor.stop()
            await running
