"""Our own reads about access: why a person may or may not act somewhere, and what an auditor looks for."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import msgspec

from counterfoil.application import reads
from counterfoil.application.requests import Stale
from counterfoil.domain import explanations, payload_types, payloads
from counterfoil.domain.access import Actor
from counterfoil.domain.explanations import Question
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import InvalidPayload
from counterfoil.http import wire
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.routing import Answer, Call, Context, Parameter

_TIME: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})"
AT: Final = Parameter("at", "When, with its offset; default now", {"type": "string", "pattern": f"^({_TIME})?$"})
PARAMETERS: Final = (
    Parameter("person", "Staff id of the person", {"type": "string", "minLength": 1}, required=True),
    Parameter("unit", "Id of the unit", {"type": "string", "pattern": "^[0-9]{1,18}$"}, required=True),
    Parameter("type", "Type of request, in any case", {"type": "string", "minLength": 1}, required=True),
    Parameter(
        "points", "How many points; default 0", {"type": "string", "pattern": r"^([0-9]{1,12}(\.[0-9]{1,3})?)?$"}
    ),
    AT,
)


class RightAnswer(msgspec.Struct):
    """Whether the right is held there, why, and who else holds it."""

    right: str
    allowed: bool
    reasons: list[str]
    others: list[str]


class AccessData(msgspec.Struct):
    """Both rights of a person."""

    person: str
    unitId: int
    requestType: str
    at: str
    rights: list[RightAnswer]


class AccessAnswer(msgspec.Struct):
    """The envelope."""

    data: AccessData
    errors: list[str] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)


class BothRights(msgspec.Struct):
    """A person who may make and decide in the same places."""

    person: str
    unitIds: list[int]


class WithoutChecker(msgspec.Struct):
    """A maker for whom nobody could decide."""

    unitId: int
    person: str
    requestType: str
    rule: str
    reason: str


class ReportData(msgspec.Struct):
    """Both reports."""

    bothRights: list[BothRights]
    withoutChecker: list[WithoutChecker]


class ReportAnswer(msgspec.Struct):
    """The envelope."""

    data: ReportData
    errors: list[str] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)


def _required(call: Call, name: str) -> str:
    value = call.query_value(name)
    if value is None:
        raise InvalidPayload(f"{name} is mandatory: add it to the query", name)
    return value


def _at(call: Call) -> datetime:
    text = call.query_value("at")
    if text is None:
        return datetime.now(UTC)
    text = text.replace(" ", "+")  # an unescaped + arrives as a blank
    try:
        if re.fullmatch(_TIME, text, re.ASCII) and 1 < int(text[:4]) < 9999:
            return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        pass
    raise InvalidPayload("at must be a time with its offset such as 2026-01-31T18:00:00Z", "at")


def _question(call: Call) -> Question:
    unit = _required(call, "unit")
    if not (unit.isascii() and unit.isdigit() and len(unit) <= 18):
        raise InvalidPayload("unit must be the id of a unit", "unit")
    points = call.query_value("points")
    known = 0 if points is None or not points.strip("0.") else payloads.points_from_wire(points, "points")
    return Question(
        _required(call, "person"), int(unit), payload_types.known_type(_required(call, "type")), known, _at(call)
    )


async def explain(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/access."""

    async def attempt(organisation: Organisation, _actor: Actor) -> Answer | Stale:
        version = await reads.organisation_version(context.pool, organisation.org_id)
        if version != organisation.version:
            return Stale(version or 0)
        asked = _question(call)
        told = [
            RightAnswer(each.right, each.is_allowed, list(each.reasons), list(each.others))
            for each in explanations.explain(organisation, asked)
        ]
        data = AccessData(asked.person_id, asked.unit_id, asked.request_type, asked.at.isoformat(), told)
        return Answer(200, wire.encode(AccessAnswer(data)))

    return await answer_fresh(context, call, attempt)


async def report(context: Context, call: Call) -> Answer:
    """GET /counterfoil/v1/access/report."""

    async def attempt(organisation: Organisation, _actor: Actor) -> Answer | Stale:
        version = await reads.organisation_version(context.pool, organisation.org_id)
        if version != organisation.version:
            return Stale(version or 0)
        at = _at(call)
        data = ReportData(
            [BothRights(each.person_id, list(each.unit_ids)) for each in explanations.both_rights(organisation, at)],
            [
                WithoutChecker(each.unit_id, each.person_id, each.request_type, each.rule, each.reason)
                for each in explanations.without_checker(organisation, at)
            ],
        )
        return Answer(200, wire.encode(ReportAnswer(data)))

    return await answer_fresh(context, call, attempt)
