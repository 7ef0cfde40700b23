"""The reads: they never lock, and tell which version of the organisation they saw."""

from __future__ import annotations

from uuid import UUID

from counterfoil.domain.evidence import AttemptRow, LookUpRow
from counterfoil.domain.request_pages import ListQuery, Page, StoredRequest
from counterfoil.domain.seals import Event
from counterfoil.storage import attempts, members, organisations, requests
from counterfoil.storage.database import Pool, acquire


async def find_request(pool: Pool, org_id: int, request_id: UUID) -> StoredRequest | None:
    """One request; its `request` is None when the organisation has no such one."""
    async with acquire(pool) as connection:
        return await requests.fetch_request(connection, org_id, request_id)


async def list_requests(pool: Pool, org_id: int, query: ListQuery) -> Page | None:
    """One page of the contract's list."""
    async with acquire(pool) as connection:
        return await requests.list_requests(connection, org_id, query)


async def list_events(pool: Pool, org_id: int, request_id: UUID) -> tuple[int, list[Event]] | None:
    """The organisation's version and the audit trail of one request."""
    async with acquire(pool) as connection:
        return await requests.list_events(connection, org_id, request_id)


async def find_balance(pool: Pool, org_id: int, kind: str, value: str) -> members.Balance | None:
    """A member's balance now, by id (kind "id") or by an identifier in its normal form."""
    async with acquire(pool) as connection:
        return await members.find_balance(connection, org_id, kind, value)


async def organisation_version(pool: Pool, org_id: int) -> int | None:
    """The version of the organisation in the database now."""
    async with acquire(pool) as connection:
        return await organisations.fetch_version(connection, org_id)


async def list_attempts(
    pool: Pool, org_id: int, request_id: UUID
) -> tuple[int, list[AttemptRow] | None, list[LookUpRow]] | None:
    """The organisation's version, the attempts of one request (None: no such request) and its look-ups."""
    async with acquire(pool) as connection:
        return await attempts.list_attempts(connection, org_id, request_id)
