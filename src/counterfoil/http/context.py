"""Builds what every handler is given, once per process, and takes it down in the right order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from counterfoil.application import points, requests
from counterfoil.application.callers import Callers
from counterfoil.application.group_commit import GroupCommit, Limits
from counterfoil.application.keys import load_keys
from counterfoil.application.organisations import Organisations
from counterfoil.application.passwords import Passwords
from counterfoil.application.throttle import Throttle
from counterfoil.application.tokens import Tokens
from counterfoil.domain.organisations import Organisation
from counterfoil.http.routing import Context
from counterfoil.settings import Settings, WrongSetting
from counterfoil.storage import database
from counterfoil.storage.database import Tx
from counterfoil.telemetry import Metrics

C = TypeVar("C")
R = TypeVar("R")


@asynccontextmanager
async def open_context(settings: Settings, metrics: Metrics) -> AsyncIterator[Context]:
    """Open the pool and the queues; afterwards answer what is queued, then close them."""
    if settings.database_url is None:
        raise WrongSetting("DATABASE_URL is not set: `counterfoil serve` starts the embedded database")
    keyring = load_keys(settings.keys_path)
    pool = await database.open_pool(
        settings.database_url, size=settings.pool_size, statement_cache=settings.statement_cache
    )
    passwords = Passwords()
    organisations = Organisations(pool)
    limits = Limits(
        queue_max=settings.queue_max,
        batch_max=settings.batch_max,
        lock_timeout_ms=settings.lock_timeout_ms,
    )

    def queue(
        verb: str, run: Callable[[Tx, Organisation, Sequence[C]], Awaitable[list[R]]]
    ) -> GroupCommit[C, R]:
        return GroupCommit(verb, pool, _in_organisation(organisations, run), limits, metrics)

    context = Context(
        settings=settings,
        pool=pool,
        metrics=metrics,
        keyring=keyring,
        organisations=organisations,
        callers=Callers(pool, organisations, passwords, Throttle(), Tokens(keyring.token_key)),
        submissions=queue("submit", requests.submit_requests),
        decisions=queue("decide", requests.decide_requests),
        redemptions=queue("redeem", points.redeem_points),
    )
    try:
        yield context
    finally:
        for each in (context.submissions, context.decisions, context.redemptions):
            await each.drain()
        passwords.close()
        await pool.close()


def _in_organisation(
    organisations: Organisations, run: Callable[[Tx, Organisation, Sequence[C]], Awaitable[list[R]]]
) -> Callable[[Tx, int, Sequence[C]], Awaitable[list[R]]]:
    """Give the verb the snapshot; it compares its version with the database's under lock."""

    async def run_with_snapshot(tx: Tx, org_id: int, commands: Sequence[C]) -> list[R]:
        organisation = await organisations.current(org_id)
        if organisation is None:
            raise AssertionError(f"organisation {org_id} went away under its callers (this is a bug)")
        return await run(tx, organisation, commands)

    return run_with_snapshot
