"""POST /v1.1/points/redeem, served directly from the built-in ledger (dossier §3.1)."""

from __future__ import annotations

from msgspec.structs import replace

from counterfoil.application import identifiers, ids
from counterfoil.application.requests import Stale
from counterfoil.domain import intouch_answers, payloads
from counterfoil.domain.access import Actor
from counterfoil.domain.intouch_answers import Outcome
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.redemptions import Redeem
from counterfoil.domain.refusals import Refusal
from counterfoil.http import wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.request_workflow import SERVED_BY
from counterfoil.http.routing import Answer, Call, Context


async def redeem(context: Context, call: Call) -> Answer:
    """Redeem at once; the body decides, HTTP stays 200 when the item failed (dossier §5 no. 9)."""
    redeem_id = ids.uuid7()
    redemption_ids = (ids.redemption_id(), ids.redemption_id())

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        # Who calls is settled before anything of the body is read.
        asked = payloads.read_redemption(wire.json_object(call.body), "")
        value = identifiers.normalise(asked.identifier_kind, asked.identifier_value, organisation.country_code)
        command = Redeem(
            redeem_id=redeem_id,
            actor=actor,
            asked=replace(asked, identifier_value=value),
            correlation_id=call.correlation_id,
            served_by=SERVED_BY,
            redemption_ids=redemption_ids,
            salt=ids.salt(),
        )
        outcome = await context.redemptions.submit(organisation.org_id, command)
        match outcome:
            case Outcome():
                return Answer(200, wire.encode(intouch_answers.redeem_body(outcome)), _headers(call))
            case Refusal():
                raise outcome
            case Stale():
                return outcome

    # The v1.1 pages name no organisation header: the till's login tells the organisation.
    return await answer_fresh(context, call, attempt, organisation_header="optional")


def _headers(call: Call) -> dict[str, str]:
    return {"X-Cap-RequestID": call.correlation_id, "X-Frame-Options": "SAMEORIGIN"}
