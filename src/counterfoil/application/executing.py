"""What an executor asks the database between two verbs: what is due, what is still its own, whether it may work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from counterfoil.application.keys import Keyring
from counterfoil.domain.freezes import Frost
from counterfoil.domain.organisations import Host
from counterfoil.storage import attempts
from counterfoil.storage.attempts import Claim
from counterfoil.storage.database import Pool, acquire

_NO_REQUEST: Final = UUID(int=0)


async def organisations_with_work(pool: Pool) -> dict[int, int]:
    """The organisations in which something is due now, each with its version."""
    async with acquire(pool) as connection:
        return await attempts.organisations_with_work(connection)


async def claim(
    pool: Pool, org_id: int, owner: str, free: Mapping[str, int], frozen: Frost, *, slots: int, lease_seconds: float
) -> list[Claim]:
    """Take what is due of one organisation, but what is frozen."""
    async with acquire(pool) as connection:
        return await attempts.claim(connection, org_id, owner, free, frozen, slots=slots, lease_seconds=lease_seconds)


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
