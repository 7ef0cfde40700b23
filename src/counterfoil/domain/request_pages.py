"""Requests as they are read: one with its sealed header values, or a page of the contract's list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from counterfoil.domain.requests import Request, State
from counterfoil.domain.seals import Event


class StoredRequest(Struct, frozen=True):
    """A request as it is read: the record and the masked header values, still sealed."""

    organisation_version: int
    request: Request | None
    sealed_headers: bytes
    entity_info: bytes
    resubmitted_as: UUID | None = None


class ListQuery(Struct, frozen=True):
    """The contract's list: closed filters, one of four orders, a page by number. Bounds are [from, until)."""

    states: tuple[State, ...]
    started_from: datetime
    started_until: datetime
    request_type: str | None = None
    maker_user_id: int | None = None
    till_id: int | None = None
    store_id: int | None = None
    zone_id: int | None = None
    concept_id: int | None = None
    sort_by: str = "startDate"
    ascending: bool = False
    limit: int = 10
    offset: int = 0
    readable: Sequence[int] | None = None  # units; None: all


class Page(Struct, frozen=True):
    """One page of requests and how many there are in all."""

    organisation_version: int
    total: int
    requests: Sequence[StoredRequest]


class Trail(Struct, frozen=True):
    """The audit trail of one request, its type and where it was made; None where only a refused attempt has the id."""

    organisation_version: int
    request_type: str | None
    unit_id: int | None
    events: Sequence[Event]
