"""Workers of the service without its HTTP: each has a pool and queues of its own, as a process has."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from counterfoil.application import comments, delegations, endings, freezes, points, requests
from counterfoil.application.comments import CommentOutcome
from counterfoil.application.delegations import DelegationOutcome
from counterfoil.application.endings import WithdrawOutcome
from counterfoil.application.freezes import FreezeOutcome
from counterfoil.application.group_commit import GroupCommit, Limits
from counterfoil.application.organisations import Organisations
from counterfoil.application.points import RedeemOutcome
from counterfoil.application.requests import DecideOutcome, SubmitOutcome
from counterfoil.domain.comments import AddComment
from counterfoil.domain.delegations import Delegate, EndDelegation
from counterfoil.domain.endings import Withdraw
from counterfoil.domain.freezes import LiftFreeze, PlaceFreeze
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.redemptions import Redeem
from counterfoil.domain.requests import Decide, Submit
from counterfoil.storage.database import Pool, Tx, open_pool

C = TypeVar("C")
R = TypeVar("R")


@dataclass
class Seen:
    """What a worker's queues told: sizes of batches, retries by reason, and every unexpected error."""

    batches: list[int] = field(default_factory=list)
    retries: Counter[str] = field(default_factory=Counter)
    faults: list[BaseException] = field(default_factory=list)
    queued: int = 0

    def batch(self, verb: str, size: int) -> None:  # noqa: ARG002
        self.batches.append(size)

    def waiting(self, verb: str, change: int) -> None:  # noqa: ARG002
        self.queued += change

    def retry(self, verb: str, reason: str) -> None:  # noqa: ARG002
        self.retries[reason] += 1

    def fault(self, verb: str, error: BaseException) -> None:  # noqa: ARG002
        self.faults.append(error)


@dataclass
class Worker:
    """One process of the service."""

    pool: Pool
    organisations: Organisations
    seen: Seen
    submissions: GroupCommit[Submit, SubmitOutcome]
    decisions: GroupCommit[Decide, DecideOutcome]
    redemptions: GroupCommit[Redeem, RedeemOutcome]
    withdrawals: GroupCommit[Withdraw, WithdrawOutcome]
    comments: GroupCommit[AddComment, CommentOutcome]
    delegations: GroupCommit[Delegate | EndDelegation, DelegationOutcome]
    freezes: GroupCommit[PlaceFreeze | LiftFreeze, FreezeOutcome]

    @property
    def queues(self) -> tuple[GroupCommit[Any, Any], ...]:
        return (
            self.submissions, self.decisions, self.redemptions, self.withdrawals, self.comments, self.delegations,
            self.freezes,
        )  # fmt: skip

    async def submit(self, command: Submit) -> SubmitOutcome:
        return await self.submissions.submit(command.actor.org_id, command)

    async def decide(self, command: Decide) -> DecideOutcome:
        return await self.decisions.submit(command.actor.org_id, command)

    async def redeem(self, command: Redeem) -> RedeemOutcome:
        return await self.redemptions.submit(command.actor.org_id, command)

    async def withdraw(self, command: Withdraw) -> WithdrawOutcome:
        return await self.withdrawals.submit(command.actor.org_id, command)

    async def comment(self, command: AddComment) -> CommentOutcome:
        return await self.comments.submit(command.actor.org_id, command)

    async def delegate(self, command: Delegate | EndDelegation) -> DelegationOutcome:
        return await self.delegations.submit(command.actor.org_id, command)

    async def freeze(self, command: PlaceFreeze | LiftFreeze) -> FreezeOutcome:
        return await self.freezes.submit(command.actor.org_id, command)

    async def sweep(self) -> None:
        """Write down what has expired."""
        await endings.sweep(
            self.pool, self.organisations, batch_max=7, lock_timeout_ms=PATIENT.lock_timeout_ms,
            fault=self.seen.faults.append,
        )  # fmt: skip

    async def organisation(self, org_id: int = 51250) -> Organisation:
        found = await self.organisations.current(org_id)
        assert found is not None
        return found


# A machine that stands still for two seconds while somebody holds a row makes nobody Busy.
PATIENT = Limits(lock_timeout_ms=20_000)


@asynccontextmanager
async def a_worker(url: str, *, pool_size: int = 4, limits: Limits | None = None) -> AsyncIterator[Worker]:
    """Open a worker; afterwards everything that it accepted is answered and its pool is closed."""
    pool = await open_pool(url, size=pool_size)
    organisations, seen = Organisations(pool), Seen()

    def queue(verb: str, run: Callable[[Tx, Organisation, Sequence[C]], Awaitable[Sequence[R]]]) -> GroupCommit[C, R]:
        async def in_organisation(tx: Tx, org_id: int, commands: Sequence[C]) -> Sequence[R]:
            found = await organisations.current_within(tx, org_id)
            assert found is not None
            return await run(tx, found, commands)

        return GroupCommit(verb, pool, in_organisation, limits or PATIENT, seen)

    worker = Worker(
        pool,
        organisations,
        seen,
        queue("submit", requests.submit_requests),
        queue("decide", requests.decide_requests),
        queue("redeem", points.redeem_points),
        queue("withdraw", endings.withdraw_requests),
        queue("comment", comments.add_comments),
        queue("delegate", delegations.change_delegations),
        queue("freeze", freezes.change_freezes),
    )
    try:
        yield worker
    finally:
        for each in worker.queues:
            await each.drain()
        await pool.close()


@asynccontextmanager
async def some_workers(url: str, count: int, *, pool_size: int = 2) -> AsyncIterator[list[Worker]]:
    """Several processes of the service on one database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(a_worker(url, pool_size=pool_size)) for _ in range(count)]
