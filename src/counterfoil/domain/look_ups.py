"""Finding out what became of a call whose answer was lost: what to read, and what the reading proves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from msgspec import Struct
from msgspec.structs import replace

from counterfoil.domain.answers import UNREADABLE, plain_text, read_body, read_code, read_flag
from counterfoil.domain.attempts import REPEATS, Failure, LookUpBy, OutboundCall, Reply
from counterfoil.domain.payloads import points_from_wire, read_redemption
from counterfoil.domain.refusals import InvalidPayload

REDEMPTIONS_PATH: Final = "/v1.1/customer/redemptions"
REDEEM_PATH: Final = "/v1.1/points/redeem"
ROWS_MAX: Final = 500  # the most that one page of that read holds


class LookUp(Struct, frozen=True):
    """A read that tells whether the effect is there: a reference with its points, or a label."""

    call: OutboundCall
    reference: str = ""
    points: int = 0
    label: str = ""


class Found(Struct, frozen=True):
    """The effect is there; `evidence` is what was read of it."""

    evidence: Mapping[str, Any]


class Absent(Struct, frozen=True):
    """At the moment of the reading the effect was not there."""

    message: str


class NoVerdict(Struct, frozen=True):
    """The reading proves nothing."""

    message: str


def build_look_up(call: OutboundCall) -> LookUp | None:
    """The read for a call that was sent; None where the type has none (`REPEATS` tells what to do then)."""
    match REPEATS[call.request_type].look_up:
        case LookUpBy.REDEMPTIONS:
            return _redemptions(call)
        case LookUpBy.STATUS:
            url, _, query = call.url.partition("?")
            kept = [each for each in parse_qsl(query, keep_blank_values=True) if each[0] != "use_async"]
            label = json.loads(call.body).get("label")
            return LookUp(_read(call, url, kept), label=str(label))
        case LookUpBy.REPEAT | LookUpBy.NOTHING:
            return None


def _redemptions(call: OutboundCall) -> LookUp:
    body = json.loads(call.body, parse_float=Decimal)
    asked = read_redemption(body)
    base = call.url.partition("?")[0].removesuffix(REDEEM_PATH)
    query = [
        (asked.identifier_kind, asked.identifier_value),
        ("external_reference_number", asked.external_reference or ""),
        ("points_limit", str(ROWS_MAX)),
        ("format", "json"),
    ]
    return LookUp(
        _read(call, base + REDEMPTIONS_PATH, query), reference=asked.external_reference or "", points=asked.points
    )


def _read(call: OutboundCall, url: str, query: list[tuple[str, str]]) -> OutboundCall:
    headers = tuple((name, value) for name, value in call.headers if name.lower() != "content-type")
    asked = urlencode(query, quote_via=quote, safe="")
    return replace(call, method="GET", url=f"{url}?{asked}", body=b"", headers=headers)


def judge_look_up(look_up: LookUp, answered: Reply | Failure) -> Found | Absent | NoVerdict:
    """What a reading proves. Only a complete, plain answer can say that something is not there."""
    if isinstance(answered, Failure):
        return NoVerdict(answered.message)
    content = read_body(answered.body)
    if answered.status != 200 or content is UNREADABLE or not isinstance(content, Mapping):
        return NoVerdict(f"the look-up answered HTTP {answered.status}")
    return _judge_label(look_up, content) if look_up.label else _judge_redemptions(look_up, content)


def _judge_label(look_up: LookUp, content: Mapping[str, Any]) -> Found | Absent | NoVerdict:
    data = content.get("data")
    place = data if isinstance(data, Mapping) else content
    status = place.get("status")
    label = place.get("label", status.get("label") if isinstance(status, Mapping) else status)
    if content.get("errors") or not isinstance(label, str):
        return NoVerdict("the look-up told no status label")
    if label.casefold() == look_up.label.casefold():
        return Found({"label": label})
    return Absent(f"the status label is {plain_text(label)}")


def _judge_redemptions(look_up: LookUp, content: Mapping[str, Any]) -> Found | Absent | NoVerdict:
    try:
        response = content["response"]
        status = response["status"]
        points = response["customer"]["redemptions"]["points"]
        rows = points.get("point") or [] if isinstance(points, Mapping) else points
        rows = [rows] if isinstance(rows, Mapping) else rows
        ours = [row for row in rows if str(row.get("external_reference_number", "")) == look_up.reference]
    except (KeyError, TypeError, AttributeError):
        return NoVerdict("the look-up told no redemptions")
    if read_flag(status.get("success")) is not True or read_code(status.get("code")) not in (None, 200):
        return NoVerdict(f"the look-up failed: {plain_text(str(status.get('message')))}")
    if not ours:
        if len(rows) >= ROWS_MAX:
            return NoVerdict(f"the look-up told {len(rows)} redemptions, and there may be more")
        return Absent(f"no redemption has the reference {look_up.reference}")
    try:
        same = len(ours) == 1 and points_from_wire(ours[0].get("points_redeemed"), "points") == look_up.points
    except InvalidPayload:
        same = False
    if same:
        return Found(ours[0])
    return NoVerdict(f"the reference {look_up.reference} is there {len(ours)} times or with other points")
