"""The balance reads of the points API (dossier §3.8)."""

from __future__ import annotations

from typing import Final

import msgspec

from counterfoil.application import identifiers, reads
from counterfoil.application.requests import Stale
from counterfoil.domain import points
from counterfoil.domain.access import Actor
from counterfoil.domain.intouch_answers import number
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import ID_MAX
from counterfoil.domain.refusals import InvalidPayload, MemberNotFound
from counterfoil.http import wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.routing import Answer, Call, Context

_IDENTIFIERS: Final = {
    "mobile": "mobile",
    "email": "email",
    "externalId": "external_id",
    "cardnumber": "card_number",
    "id": "id",
}


class PromisedPoints(msgspec.Struct):
    """Points that are promised but not yet awarded; this ledger has none."""

    delayedAccrualPoints: float = 0.0
    externalTriggerBasedPoints: float = 0.0


class BalanceAnswer(msgspec.Struct):
    """A member's balance; `mainPoints` can be redeemed now, `totalPoints` adds what is held."""

    entityId: int
    entityType: str
    totalPoints: float
    mainPoints: float
    promisedPoints: float
    promisedPointsBreakup: PromisedPoints
    warnings: list[str]


async def balance_by_id(context: Context, call: Call) -> Answer:
    """GET /v2/customers/{id}/points/balance."""
    return await _balance(context, call, "id", call.path_params["customer_id"])


async def balance_by_identifier(context: Context, call: Call) -> Answer:
    """GET /v2/customers/lookup/points/balance, by identifierName and identifierValue."""
    name, value = call.query_value("identifierName"), call.query_value("identifierValue")
    if name not in _IDENTIFIERS:
        raise InvalidPayload(f"identifierName must be one of {', '.join(_IDENTIFIERS)}", "identifierName")
    if not value:
        raise InvalidPayload("identifierValue is mandatory", "identifierValue")
    return await _balance(context, call, _IDENTIFIERS[name], value)


async def _balance(context: Context, call: Call, kind: str, value: str) -> Answer:
    if kind == "id" and not (value.isascii() and value.isdigit() and len(value) <= 19 and int(value) <= ID_MAX):
        raise InvalidPayload("the customer id must be a number of at most 19 digits", "id")

    async def attempt(organisation: Organisation, _actor: Actor) -> Answer | Stale:
        wanted = value if kind == "id" else identifiers.normalise(kind, value, organisation.country_code)
        found = await reads.find_balance(context.pool, organisation.org_id, kind, wanted)
        if found is None or found.organisation_version != organisation.version:
            return Stale(found.organisation_version if found else 0)
        account = found.account
        if account is None:
            raise MemberNotFound("no member of this organisation has that identifier", "identifierValue")
        grace_hours = organisation.programme.release_grace_hours
        settled = points.settle_due(account, now=found.now, grace_hours=grace_hours).account
        return Answer(200, _rendered(settled.member_id, settled.available, settled.held))

    return await answer_fresh(context, call, attempt)


def _rendered(member_id: int, available: int, held: int) -> bytes:
    nothing = {"delayedAccrualPoints": 0.0, "externalTriggerBasedPoints": 0.0}
    return wire.encode(
        {
            "entityId": member_id,
            "entityType": "CUSTOMER",
            "totalPoints": _float_form(available + held),
            "mainPoints": _float_form(available),
            "promisedPoints": 0.0,
            "promisedPointsBreakup": nothing,
            "warnings": [],
        }
    )


def _float_form(thousandths: int) -> msgspec.Raw:
    """An exact decimal that always shows a fraction, as the samples do: 8500.0."""
    text = str(number(thousandths))
    return msgspec.Raw((text if "." in text else f"{text}.0").encode())
