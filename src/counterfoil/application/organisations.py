"""The snapshots of organisations that this process holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, TypeVar

from counterfoil.domain.organisations import Organisation
from counterfoil.storage import organisations
from counterfoil.storage.database import Pool, Tx, acquire

C = TypeVar("C")
R = TypeVar("R")
Verb: TypeAlias = Callable[[Tx, Organisation, Sequence[C]], Awaitable[Sequence[R]]]


class Organisations:
    """Loads an organisation once and keeps it until somebody sees another version in the database.

    Every verb and every read compares the version and calls `forget`, so that a revoked grant or a
    changed password counts with the next call on every node.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._snapshots: dict[int, Organisation] = {}
        self._logins: dict[str, int] = {}
        self._loading: dict[int, asyncio.Task[Organisation | None]] = {}

    async def current(self, org_id: int) -> Organisation | None:
        """The snapshot, loaded if this process has none; concurrent callers share one load."""
        snapshot = self._snapshots.get(org_id)
        if snapshot is not None:
            return snapshot
        task = self._loading.get(org_id)
        if task is None:
            task = self._loading[org_id] = asyncio.create_task(self._load(org_id))
        return await asyncio.shield(task)

    async def current_within(self, tx: Tx, org_id: int) -> Organisation | None:
        """The same for a verb: it loads on its own connection, so that it never waits for a second one."""
        snapshot = self._snapshots.get(org_id) or await organisations.find_organisation(tx, org_id)
        if snapshot is not None:
            self._snapshots[org_id] = snapshot
        return snapshot

    async def _load(self, org_id: int) -> Organisation | None:
        try:
            async with acquire(self._pool) as connection:
                snapshot = await organisations.find_organisation(connection, org_id)
        finally:
            del self._loading[org_id]
        if snapshot is not None:
            self._snapshots[org_id] = snapshot
        return snapshot

    async def organisation_of(self, login: str, *, again: bool = False) -> int | None:
        """The organisation of a login; unknown logins are looked up each time, and known ones `again`."""
        org_id = None if again else self._logins.get(login)
        if org_id is None:
            async with acquire(self._pool) as connection:
                org_id = await organisations.find_organisation_of_login(connection, login)
            if org_id is None:
                self._logins.pop(login, None)
            else:
                self._logins[login] = org_id
        return org_id

    def forget(self, org_id: int, version_seen: int) -> None:
        """Drop the snapshot when the database has another version."""
        snapshot = self._snapshots.get(org_id)
        if snapshot is not None and snapshot.version != version_seen:
            del self._snapshots[org_id]
            for login in snapshot.credentials:  # one of them may belong to another organisation by now
                self._logins.pop(login, None)


def with_snapshot(
    organisations: Organisations, run: Verb[C, R]
) -> Callable[[Tx, int, Sequence[C]], Awaitable[Sequence[R]]]:
    """Give the verb the snapshot; it compares its version with the database's under lock."""

    async def run_with_snapshot(tx: Tx, org_id: int, commands: Sequence[C]) -> Sequence[R]:
        organisation = await organisations.current_within(tx, org_id)
        if organisation is None:
            raise AssertionError(f"organisation {org_id} went away under its callers (this is a bug)")
        return await run(tx, organisation, commands)

    return run_with_snapshot
