"""The reads of the contract: one request, and the list with its filters, orders and pages (dossier §2.9)."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from counterfoil.application import reads
from counterfoil.application.requests import Stale
from counterfoil.domain import payload_types
from counterfoil.domain.access import Actor
from counterfoil.domain.admin_changes import ADMIN_CHANGE
from counterfoil.domain.dual_control import may_read_changes
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import ID_MAX
from counterfoil.domain.reach import may_read, readable_units
from counterfoil.domain.refusals import BadSort, BadSortOrder, InvalidPayload, RequestNotFound
from counterfoil.domain.request_pages import ListQuery, StoredRequest
from counterfoil.domain.requests import WIRE_STATE, State
from counterfoil.http import wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.request_workflow import opened, told
from counterfoil.http.routing import Answer, Call, Context

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_LIMIT_DEFAULT: Final = 10
_LIMIT_MAX: Final = 1000
_PAGE_MAX: Final = 10**12
_STATES: Final = {
    wire_name.lower(): tuple(state for state, name in WIRE_STATE.items() if name == wire_name)
    for wire_name in WIRE_STATE.values()
} | {"pending": (State.PENDING, State.APPROVED, State.UNKNOWN)}


def request_id_of(call: Call) -> UUID:
    """The request id in the URL, or RequestNotFound."""
    found = wire.read_uuid(call.path_params["request_id"])
    if found is None:
        raise no_such_request()
    return found


def no_such_request() -> RequestNotFound:
    """What is not there, is another organisation's, or is not for this reader's eyes: nobody can tell which."""
    return RequestNotFound("no request of this organisation has that requestId", "requestId")


async def get_one(context: Context, call: Call) -> Answer:
    """GET …/requests/{requestId}."""
    request_id = request_id_of(call)

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        stored = await reads.find_request(context.pool, organisation.org_id, request_id)
        if stored is None or stored.organisation_version != organisation.version:
            return Stale(stored.organisation_version if stored else 0)
        request = stored.request
        # An administrative change is no request of the contract.
        if request is None or request.request_type not in payload_types.TYPES:
            raise no_such_request()
        if not may_read(organisation, actor, request.unit_id, datetime.now(UTC)):
            raise no_such_request()
        answer = wire.RequestAnswer(_data(context, organisation, stored))
        return Answer(200, wire.encode(answer), told(request))

    return await answer_fresh(context, call, attempt)


async def list_page(context: Context, call: Call) -> Answer:
    """GET …/requests with the contract's filters; empty values mean "not set"."""

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        query = read_query(call, organisation, actor)
        page = await reads.list_requests(context.pool, organisation.org_id, query)
        if page is None or page.organisation_version != organisation.version:
            return Stale(page.organisation_version if page else 0)
        return Answer(
            200,
            wire.encode(
                wire.RequestList(
                    [_data(context, organisation, stored) for stored in page.requests],
                    wire.Pagination(
                        totalElements=page.total,
                        totalPages=-(-page.total // query.limit),
                        numberOfElements=len(page.requests),
                        number=query.offset // query.limit,
                    ),
                )
            ),
        )

    return await answer_fresh(context, call, attempt)


def _data(context: Context, organisation: Organisation, stored: StoredRequest) -> wire.RequestData:
    request = stored.request
    if request is None:
        raise AssertionError("a listed request exists (this is a bug)")
    payload = (
        opened(context, organisation, stored, request) if organisation.echo_credentials == "all" else request.payload
    )
    return wire.request_data(organisation, request, payload)


def day_in(call: Call, name: str) -> date | None:
    """A day of the query string, None where there is none."""
    text = call.query_value(name) or ""
    if not text:
        return None
    try:
        if _DAY.fullmatch(text):  # fromisoformat alone would take weeks such as 2026-W05-6
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise InvalidPayload(f"{name} must be a day such as 2026-01-31", name)


def _states(text: str) -> tuple[State, ...]:
    chosen: list[State] = []
    for name in filter(None, (part.strip().lower() for part in text.split(","))):
        if name not in _STATES:
            raise InvalidPayload("states must be a list of AdminTask, approved, rejected, failed", "states")
        chosen.extend(_STATES[name])
    return tuple(dict.fromkeys(chosen)) or tuple(State)


def bounds_of(first: date | None, last: date | None, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Both days bound startTime, inclusive, in the zone that startTime is shown in."""
    try:
        since = datetime(1, 1, 2, tzinfo=UTC) if first is None else datetime.combine(first, datetime.min.time(), zone)
        until = (
            datetime(9999, 12, 30, tzinfo=UTC)
            if last is None
            else datetime.combine(last + timedelta(days=1), datetime.min.time(), zone)
        )
        return since.astimezone(UTC), until.astimezone(UTC)
    except OverflowError:
        raise InvalidPayload("startDate and endDate must be days of the years 2 to 9998", "startDate") from None


def read_query(call: Call, organisation: Organisation, actor: Actor) -> ListQuery:
    """The list's query string, each wrong value refused with its name."""
    sort_by = call.query_value("sortBy") or "startDate"
    if sort_by not in ("startDate", "endDate"):
        raise BadSort("sortBy must be startDate or endDate", "sortBy")
    order = (call.query_value("sortOrder") or "desc").lower()
    if order not in ("asc", "desc"):
        raise BadSortOrder("sortOrder must be asc or desc", "sortOrder")
    limit = call.query_number("limit", _LIMIT_MAX, 1) or _LIMIT_DEFAULT
    kind = call.query_value("requestType")
    readable = readable_units(organisation, actor, datetime.now(UTC))
    since, until = bounds_of(day_in(call, "startDate"), day_in(call, "endDate"), ZoneInfo(organisation.wire_time_zone))
    return ListQuery(
        states=_states(call.query_value("states") or ""),
        started_from=since,
        started_until=until,
        request_type=payload_types.known_type(kind) if kind else None,
        maker_user_id=call.query_number("userId", ID_MAX),
        till_id=call.query_number("tillId", ID_MAX),
        store_id=call.query_number("storeId", ID_MAX),
        zone_id=call.query_number("zoneId", ID_MAX),
        concept_id=call.query_number("conceptId", ID_MAX),
        sort_by=sort_by,
        ascending=order == "asc",
        limit=limit,
        offset=limit * (call.query_number("PageNo", _PAGE_MAX) or 0),
        readable=None if readable is None else sorted(readable),
    )


class AuditEvent(msgspec.Struct):
    """One line of the audit trail. Names ending in # are salted commitments to personal values."""

    eventId: str
    kind: str
    at: str
    facts: msgspec.Raw
    leafHash: str


class AuditTrail(msgspec.Struct):
    """The audit trail of one request, in order."""

    data: list[AuditEvent]
    errors: None = None


async def list_events(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/requests/{requestId}/events."""
    request_id = request_id_of(call)

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        found = await reads.list_events(context.pool, organisation.org_id, request_id)
        if found is None or found.organisation_version != organisation.version:
            return Stale(found.organisation_version if found else 0)
        now = datetime.now(UTC)
        if found.request_type == ADMIN_CHANGE:  # it says who gets which right
            allowed = may_read_changes(organisation, actor, now) is None
        else:
            allowed = may_read(organisation, actor, found.unit_id, now)
        if not found.events or not allowed:
            raise no_such_request()
        trail = [
            AuditEvent(
                str(event.event_id),
                event.kind,
                wire.iso(event.at),
                msgspec.Raw(event.facts),
                event.leaf_hash.hex(),
            )
            for event in found.events
        ]
        return Answer(200, wire.encode(AuditTrail(trail)))

    return await answer_fresh(context, call, attempt)
