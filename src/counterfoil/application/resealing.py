"""Sealing everything that is stored anew with the key that seals now, so that older keys can go.

In batches, each a transaction of its own that changes sealed forms and nothing else: whoever is cut off begins again,
and finds done what was done. The service runs meanwhile; what it needs opens with either key.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from counterfoil.application import ids
from counterfoil.application.executing import credential_name
from counterfoil.application.issuers import secret_name
from counterfoil.application.keys import KEY_ID_BYTES, Keyring, KeysUnusable
from counterfoil.domain.refusals import Busy
from counterfoil.domain.seals import make_event
from counterfoil.storage import administration, sealed_values
from counterfoil.storage.database import BLOCKED, CLASH, LOST, Pool, Tx, acquire, transaction
from counterfoil.storage.sealed_values import Entry, Headers, Proposed

EVENT_KIND: Final = "sealed_anew"
BATCH_MAX: Final = 500
LOCK_TIMEOUT_MS: Final = 2_000
TRIES: Final = 5
_NO_REQUEST: Final = UUID(int=0)
_pack, _unpack = msgspec.msgpack.encode, msgspec.msgpack.Decoder(dict[str, bytes]).decode

R = TypeVar("R")


@dataclass(slots=True)
class Resealing:
    """How far it is. `remaining` counts, by the id of its key, what is not sealed with the key that seals now."""

    organisations: int = 0
    organisations_done: int = 0
    requests_seen: int = 0
    values_sealed: int = 0
    remaining: Counter[str] = field(default_factory=Counter)
    # The undecided proposals that carry some of it, each with its organisation.
    proposals: set[tuple[int, UUID]] = field(default_factory=set)
    # Of `remaining`, what cannot be opened: its key is not in the file, or it was altered.
    unreadable: int = 0


async def seal_anew(
    pool: Pool, keyring: Keyring, *, now: float, operator: str, tell: Callable[[Resealing], None]
) -> Resealing:
    """Seal everything with the key of this time of day, then count what is not; `tell` is called after each batch."""
    done = await _work_through(pool, _Pass(keyring, now, operator), tell)
    # Meanwhile the service may have stored what it had sealed before; and nothing is believed without a look.
    counted = await _work_through(pool, _Pass(keyring, now, None), tell)
    return dataclasses.replace(counted, values_sealed=done.values_sealed)


class _Pass(Struct, frozen=True):
    """One way through everything. Without an operator it only counts."""

    keyring: Keyring
    now: float
    operator: str | None

    @property
    def key_id(self) -> bytes:
        return self.keyring.sealing_key(self.now)

    def is_old(self, sealed: bytes) -> bool:
        return sealed[:KEY_ID_BYTES] != self.key_id

    def anew(self, org_id: int, request_id: UUID, name: str, sealed: bytes, found: Resealing) -> bytes:
        """The value sealed anew; as it is, and counted, where that is not wanted or cannot be."""
        if not self.is_old(sealed):
            return sealed
        try:
            opened = self.keyring.open(org_id, request_id, name, sealed)
        except KeysUnusable:
            found.unreadable += 1
        else:
            if self.operator is not None:
                found.values_sealed += 1
                return self.keyring.seal(org_id, request_id, name, opened, now=self.now)
        found.remaining[sealed[:KEY_ID_BYTES].hex()] += 1
        return sealed


async def _work_through(pool: Pool, this: _Pass, tell: Callable[[Resealing], None]) -> Resealing:
    found = Resealing()
    async with acquire(pool) as connection:
        org_ids = await sealed_values.list_organisations(connection)
    found.organisations = len(org_ids)
    for org_id in org_ids:
        await _entries(pool, org_id, this, found)
        after = _NO_REQUEST
        while batch := await _patiently(pool, partial(_next_batch, org_id=org_id, after=after)):
            after = batch[-1].request_id
            await _headers(pool, org_id, batch, this, found)
            tell(found)
        found.organisations_done += 1
        tell(found)
    return found


async def _next_batch(tx: Tx, *, org_id: int, after: UUID) -> list[Headers]:
    return await sealed_values.list_headers(tx, org_id, after, BATCH_MAX)


async def _headers(pool: Pool, org_id: int, batch: Collection[Headers], this: _Pass, found: Resealing) -> None:
    anew = []
    for each in batch:
        values = _unpack(each.sealed) if each.sealed else {}
        sealed = {name: this.anew(org_id, each.request_id, name, value, found) for name, value in values.items()}
        if sealed != values:
            anew.append((each, _pack(sealed)))
    found.requests_seen += len(batch)
    if anew:
        await _patiently(pool, lambda tx: sealed_values.write_headers(tx, org_id, anew))


async def _entries(pool: Pool, org_id: int, this: _Pass, found: Resealing) -> None:
    """The values of the organisation itself, in one transaction that other administration waits for."""

    async def run(tx: Tx) -> Resealing:
        once = Resealing()
        entries, proposed = await sealed_values.lock_entries(tx, org_id)
        _count_proposed(org_id, proposed, this, once)
        # What a proposal touches must stay as its maker saw it until the proposal is decided.
        touched = {(each.of_host, each.name) for each in proposed}
        count_only = replace(this, operator=None)
        anew = []
        for entry in entries:
            name = credential_name(entry.name) if entry.of_host else secret_name(entry.name)
            how = count_only if (entry.of_host, entry.name) in touched else this
            sealed = how.anew(org_id, _NO_REQUEST, name, bytes.fromhex(entry.sealed), once).hex()
            if sealed != entry.sealed:
                anew.append(replace(entry, sealed=sealed))
        if anew:
            await _write_entries(tx, org_id, anew, this)
        return once

    once = await _patiently(pool, run)
    found.values_sealed += once.values_sealed
    found.unreadable += once.unreadable
    found.remaining += once.remaining
    found.proposals |= once.proposals


def _count_proposed(org_id: int, proposed: Collection[Proposed], this: _Pass, found: Resealing) -> None:
    for each in proposed:
        sealed = bytes.fromhex(each.sealed)
        if this.is_old(sealed):
            found.remaining[sealed[:KEY_ID_BYTES].hex()] += 1
            found.proposals.add((org_id, each.request_id))


async def _write_entries(tx: Tx, org_id: int, anew: list[Entry], this: _Pass) -> None:
    version, now = await sealed_values.write_entries(tx, org_id, anew)
    facts = {
        "organisation": org_id,
        "version": version,
        "key": this.key_id.hex(),
        "hosts": [each.name for each in anew if each.of_host],
        "issuers": [each.name for each in anew if not each.of_host],
    }
    event = make_event(ids.uuid7(), ids.uuid7(), EVENT_KIND, now, ids.salt(), facts, {"operator": this.operator or ""})
    await administration.append_events(tx, org_id, [event])


async def _patiently(pool: Pool, run: Callable[[Tx], Awaitable[R]]) -> R:
    """One transaction, again when the service was in the way: every one of these may run twice."""
    for tried in range(1, TRIES + 1):
        try:
            async with transaction(pool, lock_timeout_ms=LOCK_TIMEOUT_MS) as tx:
                return await run(tx)
        except (*CLASH, *BLOCKED, *LOST, Busy):
            if tried == TRIES:
                raise
            await asyncio.sleep(0.2 * tried**2)
    raise AssertionError("the last try returns or raises (this is a bug)")
