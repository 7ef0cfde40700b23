"""What an executor asks the database between two verbs: what is due, what is still its own, whether it may work."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from time import monotonic
from typing import Final
from uuid import UUID

import msgspec

from counterfoil.application.attempts import Work
from counterfoil.application.keys import Keyring, KeysUnusable
from counterfoil.application.organisations import Organisations
from counterfoil.domain.attempts import Failure, OutboundCall
from counterfoil.domain.calls import build_call
from counterfoil.domain.freezes import frost
from counterfoil.domain.organisations import Host
from counterfoil.domain.refusals import Refusal
from counterfoil.storage import attempts, restores
from counterfoil.storage.attempts import Claim
from counterfoil.storage.database import Pool, acquire, in_transaction

LOCK_TIMEOUT_MS: Final = 2000
_NO_REQUEST: Final = UUID(int=0)
_unpack: Final = msgspec.msgpack.Decoder(dict[str, bytes]).decode


async def look_for_work(pool: Pool) -> tuple[str | None, dict[int, int]]:
    """Why nothing may be executed, if so; else the organisations in which something is due, each with its version."""
    async with acquire(pool) as connection:
        reason = await restores.why_paused(connection)
        return reason, {} if reason else await attempts.organisations_with_work(connection)


async def claim_in_turn(
    pool: Pool,
    organisations: Organisations,
    versions: Mapping[int, int],
    owner: str,
    lease_seconds: float,
    room: Callable[[int], int],
    free: Callable[[int, Host], int],
) -> AsyncIterator[tuple[int, float, list[Claim], bool]]:
    """Take what is due and not frozen, one organisation after the other, on one connection.

    `room` tells how many of an organisation may be taken now (0: no more of any), `free` how many of a host. Each
    organisation is told with the time from before its claims, its claims, and whether nothing
    more of it is due.
    """
    async with acquire(pool) as connection:
        for org_id, version in versions.items():
            organisations.forget(org_id, version)
            organisation = await organisations.current_within(connection, org_id)
            frozen = None if organisation is None else frost(organisation)
            if organisation is None or frozen is None or frozen.everything:
                continue
            slots, asked_at = room(org_id), monotonic()
            if slots <= 0:
                return
            slots_of = {
                host.host_id: 0 if host.host_id in frozen.hosts else min(slots, free(org_id, host))
                for host in organisation.hosts
            }
            async with in_transaction(connection, lock_timeout_ms=LOCK_TIMEOUT_MS):  # planned once for all
                claims = await attempts.claim(
                    connection, org_id, owner, slots_of, frozen, slots=slots, lease_seconds=lease_seconds
                )
            yield org_id, asked_at, claims, len(claims) < slots == min(slots_of.values(), default=slots)


async def extend_leases(
    pool: Pool, org_id: int, owner: str, claims: Sequence[tuple[UUID, int]], lease_seconds: float
) -> set[UUID]:
    """Keep what is still this process's."""
    async with acquire(pool) as connection:
        return await attempts.extend_leases(connection, org_id, owner, claims, lease_seconds)


def credential_name(host_id: str) -> str:
    """What the credential of a host entry is sealed as."""
    return f"host {host_id}"


def seal_credential(keyring: Keyring, org_id: int, host_id: str, value: str, *, now: float) -> tuple[str, str]:
    """The Authorization of a host entry, sealed for this entry only, and the digest to compare it by; both in hex."""
    return keyring.seal(org_id, _NO_REQUEST, credential_name(host_id), value, now=now).hex(), keyring.mac(value).hex()


def open_credential(keyring: Keyring, org_id: int, host: Host) -> Mapping[str, str] | None:
    """The headers that the host entry brings along instead of the payload's; raises KeysUnusable."""
    if host.credential_sealed is None:
        return None
    sealed = bytes.fromhex(host.credential_sealed)
    return {"Authorization": keyring.open(org_id, _NO_REQUEST, credential_name(host.host_id), sealed)}


def outbound_call(keyring: Keyring, org_id: int, work: Work, host: Host) -> OutboundCall | Failure:
    """The exact call, with its credentials opened."""
    request = work.request
    sealed = _unpack(work.sealed_headers) if work.sealed_headers else {}
    try:
        opened = {name: keyring.open(org_id, request.request_id, name, value) for name, value in sealed.items()}
        credential = open_credential(keyring, org_id, host)
    except KeysUnusable as error:
        return Failure(sent=False, kind="keys", message=str(error))
    headers = {name: str(value) for name, value in json.loads(request.payload)["headers"].items()} | opened
    call = build_call(
        request.request_id, request.request_type, request.payload, headers, host,
        deadline_seconds=host.attempt_seconds, credential=credential,
    )  # fmt: skip
    return Failure(sent=False, kind="build", message=call.message) if isinstance(call, Refusal) else call
