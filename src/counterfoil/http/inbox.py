"""Our own lists: what can I decide now, and the search."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from counterfoil.application import identifiers, inbox, searches
from counterfoil.application.cursors import read_cursor, write_cursor
from counterfoil.application.inbox import ListedPage
from counterfoil.application.requests import Stale
from counterfoil.domain import payload_types
from counterfoil.domain.access import Actor
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import ID_MAX
from counterfoil.domain.reach import readable_units
from counterfoil.domain.refusals import InvalidPayload, NotPermitted
from counterfoil.domain.requests import State
from counterfoil.domain.searches import Search
from counterfoil.http import wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.listed import IDENTIFIER_NAMES, Paging, RowList, row_of
from counterfoil.http.request_reads import bounds_of, day_in
from counterfoil.http.routing import Answer, Call, Context

LIMIT_DEFAULT: Final = 25
LIMIT_MAX: Final = 100
PAGE_PARAMETERS: Final = ("limit", "cursor")
SEARCH_PARAMETERS: Final = (
    "memberId", "identifierName", "identifierValue", "reference", "maker", "checker", "states", "requestType", "unit",
    "startDate", "endDate", *PAGE_PARAMETERS,
)  # fmt: skip
_KINDS: Final = {name: kind for kind, name in IDENTIFIER_NAMES.items()}


async def list_inbox(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/inbox: what the person can decide now, the most urgent first."""

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        _only(call, PAGE_PARAMETERS)
        if not actor.has_user:
            raise NotPermitted("an inbox is a person's: send the checker's user token in X-CAP-UI-AUTH-TOKEN")
        limit = call.query_number("limit", LIMIT_MAX, 1) or LIMIT_DEFAULT
        of_what = f"inbox {organisation.org_id} {actor.person_id}"
        cursor = call.query_value("cursor")
        page = await inbox.list_inbox(
            context.pool, organisation, actor, limit=limit, now=datetime.now(UTC),
            after=read_cursor(context.keyring, of_what, cursor) if cursor else None,
        )  # fmt: skip
        return page if isinstance(page, Stale) else _rendered(context, organisation, page, of_what, limit)

    return await answer_fresh(context, call, attempt)


async def search(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/requests: requests by what is known of them, the newest first."""

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        _only(call, SEARCH_PARAMETERS)
        limit = call.query_number("limit", LIMIT_MAX, 1) or LIMIT_DEFAULT
        asked = read_search(call, organisation, actor)
        sent = sorted((name, values) for name, values in call.query.items() if name not in PAGE_PARAMETERS)
        of_what = f"search {organisation.org_id} {actor.person_id} {sent}"
        cursor = call.query_value("cursor")
        page = await searches.search_requests(
            context.pool, organisation, actor, asked, limit=limit,
            after=read_cursor(context.keyring, of_what, cursor) if cursor else None,
        )  # fmt: skip
        return page if isinstance(page, Stale) else _rendered(context, organisation, page, of_what, limit)

    return await answer_fresh(context, call, attempt)


def _rendered(context: Context, organisation: Organisation, page: ListedPage, of_what: str, limit: int) -> Answer:
    following = None if page.next_key is None else write_cursor(context.keyring, of_what, page.next_key)
    rows = [row_of(organisation, each) for each in page.rows]
    return Answer(200, wire.encode(RowList(rows, Paging(limit, following))))


def _only(call: Call, known: tuple[str, ...]) -> None:
    """A filter with a slip in its name would find too much without a word."""
    for name in call.query:
        if name not in known:
            raise InvalidPayload(f"the query parameter is not known: use {', '.join(known)}", name[:64])


def read_search(call: Call, organisation: Organisation, actor: Actor) -> Search:
    """The search's query string, each wrong value refused with its name."""
    since, until = bounds_of(day_in(call, "startDate"), day_in(call, "endDate"), ZoneInfo(organisation.wire_time_zone))
    kind = call.query_value("requestType")
    units = readable_units(organisation, actor, datetime.now(UTC))
    unit_id = call.query_number("unit", ID_MAX)
    if unit_id is not None:
        if unit_id not in organisation.units:
            raise InvalidPayload("no unit of this organisation has that id", "unit")
        below = organisation.below(unit_id)
        units = below if units is None else below & units
    return Search(
        started_from=since,
        started_until=until,
        states=_states(call.query_value("states") or ""),
        request_type=payload_types.known_type(kind) if kind else None,
        reference=call.query_value("reference"),
        member_id=call.query_number("memberId", ID_MAX),
        identifier=_identifier(call, organisation),
        maker=_person(call, "maker", organisation, actor),
        checker=_person(call, "checker", organisation, actor),
        units=None if units is None else sorted(units),
    )


def _states(text: str) -> tuple[State, ...]:
    known = {state.value: state for state in State}
    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    if not set(names) <= known.keys():
        raise InvalidPayload(f"states must be a list with commas of {', '.join(known)}", "states")
    return tuple(known[name] for name in dict.fromkeys(names)) or tuple(State)


def _identifier(call: Call, organisation: Organisation) -> tuple[str, str] | None:
    name, value = call.query_value("identifierName"), call.query_value("identifierValue")
    if name is None and value is None:
        return None
    if name not in _KINDS:
        raise InvalidPayload(f"identifierName must be one of {', '.join(_KINDS)}", "identifierName")
    if value is None:
        raise InvalidPayload("identifierValue is mandatory beside identifierName", "identifierValue")
    if call.query_value("memberId") is not None:
        raise InvalidPayload("name the member by memberId or by an identifier, not by both", "memberId")
    return _KINDS[name], identifiers.normalise(_KINDS[name], value, organisation.country_code)


def _person(call: Call, name: str, organisation: Organisation, actor: Actor) -> str | None:
    """The staff id that is meant: by itself, by a user name or id, by a client's login, or by the word `me`."""
    text = call.query_value(name)
    if text is None:
        return None
    if text == "me" and actor.person_id is not None:
        return actor.person_id
    if text in organisation.people:
        return text
    user = organisation.users_by_name.get(text.lower())
    if user is None and text.isascii() and text.isdigit() and len(text) <= 19:
        user = organisation.users.get(int(text))
    if user is not None:
        return user.person_id
    credential = organisation.credentials.get(text)
    if credential is not None and credential.person_id is not None:
        return credential.person_id
    raise InvalidPayload(f"{name} must be a staff id, a user name or a user id of this organisation, or me", name)
