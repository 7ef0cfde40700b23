"""The reads: they never lock, and tell which version of the organisation they saw."""

from __future__ import annotations

from uuid import UUID

from counterfoil.domain.evidence import Tried
from counterfoil.domain.request_pages import ListQuery, Page, StoredRequest, Trail
from counterfoil.domain.request_views import RequestFile
from counterfoil.storage import (
    attempts,
    comments,
    delegations,
    freezes,
    members,
    organisations,
    request_views,
    requests,
)
from counterfoil.storage.database import Pool, acquire


async def find_request(pool: Pool, org_id: int, request_id: UUID) -> StoredRequest | None:
    """One request; its `request` is None when the organisation has no such one."""
    async with acquire(pool) as connection:
        return await requests.fetch_request(connection, org_id, request_id)


async def find_file(pool: Pool, org_id: int, request_id: UUID) -> RequestFile | None:
    """One request with everything that a full view is made from; `request` None when there is no such one."""
    async with acquire(pool) as connection:
        return await request_views.fetch_file(connection, org_id, request_id)


async def list_requests(pool: Pool, org_id: int, query: ListQuery) -> Page | None:
    """One page of the contract's list."""
    async with acquire(pool) as connection:
        return await requests.list_requests(connection, org_id, query)


async def list_events(pool: Pool, org_id: int, request_id: UUID) -> Trail | None:
    """The audit trail of one request."""
    async with acquire(pool) as connection:
        return await requests.list_events(connection, org_id, request_id)


async def list_comments(
    pool: Pool, org_id: int, request_id: UUID, after: UUID | None, limit: int
) -> comments.CommentPage | None:
    """A page of a request's comments."""
    async with acquire(pool) as connection:
        return await comments.list_comments(connection, org_id, request_id, after, limit)


async def list_delegations(
    pool: Pool, org_id: int, person_id: str | None, after: UUID | None, limit: int, *, past: bool
) -> delegations.DelegationPage | None:
    """A page of delegations, of one person or of all."""
    async with acquire(pool) as connection:
        return await delegations.list_delegations(connection, org_id, person_id, after, limit, past=past)


async def list_freezes(
    pool: Pool, org_id: int, after: UUID | None, limit: int, *, past: bool
) -> freezes.FreezePage | None:
    """A page of freezes."""
    async with acquire(pool) as connection:
        return await freezes.list_freezes(connection, org_id, after, limit, past=past)


async def find_balance(pool: Pool, org_id: int, kind: str, value: str) -> members.Balance | None:
    """A member's balance now, by id (kind "id") or by an identifier in its normal form."""
    async with acquire(pool) as connection:
        return await members.find_balance(connection, org_id, kind, value)


async def find_status(pool: Pool, org_id: int, member_id: int) -> members.Status | None:
    """A member's status label."""
    async with acquire(pool) as connection:
        return await members.find_status(connection, org_id, member_id)


async def organisation_version(pool: Pool, org_id: int) -> int | None:
    """The version of the organisation in the database now."""
    async with acquire(pool) as connection:
        return await organisations.fetch_version(connection, org_id)


async def list_attempts(pool: Pool, org_id: int, request_id: UUID) -> Tried | None:
    """The attempts and look-ups of one request."""
    async with acquire(pool) as connection:
        return await attempts.list_attempts(connection, org_id, request_id)
