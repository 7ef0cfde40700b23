"""`counterfoil access`: who may do what, where and why. It reads the database and changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from counterfoil.application.access import NoOrganisation, load_organisation
from counterfoil.cli.org import OUTSIDE, database, explain_outside
from counterfoil.cli.output import fail, tell
from counterfoil.domain import explanations
from counterfoil.domain.explanations import Explanation, Question
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payload_types import known_type
from counterfoil.domain.payloads import points_from_wire
from counterfoil.domain.refusals import Refusal
from counterfoil.settings import load_settings

access = App(name="access", help="Who may make and decide requests, where and why; nothing is changed.")
Json = Annotated[bool, Parameter(name="--json", negative="")]


@access.command
def explain(
    person: str,
    *,
    unit: int,
    request_type: Annotated[str, Parameter(name="--type")],
    points: str = "0",
    at: str | None = None,
    org: int | None = None,
    as_json: Json = False,
) -> int:
    """Say whether a person may make and decide requests at a unit, why, and who else may.

    Parameters
    ----------
    person
        The staff id.
    unit
        The id of the till, store, zone or concept.
    request_type
        A request type such as POINTS-REDEMPTION.
    points
        For how many points.
    at
        When, with its offset, such as 2026-01-31T18:00+05:30; now where it is left out.
    org
        The organisation's number; not needed where there is one only.
    as_json
        Print one JSON document.
    """
    try:
        when = datetime.now(UTC) if at is None else datetime.fromisoformat(at)
        amount = 0 if not points.strip("0.") else points_from_wire(points, "--points")
        asked = Question(person, unit, known_type(request_type), amount, when)
    except ValueError:
        return fail("--at must be a time with its offset such as 2026-01-31T18:00+05:30")
    except Refusal as refusal:
        return fail(refusal.message)
    if when.tzinfo is None:
        return fail("--at must be a time with its offset such as 2026-01-31T18:00+05:30")
    found = _load(org)
    if isinstance(found, int):
        return found
    told = explanations.explain(found, asked)
    if as_json:
        tell(json.dumps(msgspec.to_builtins(told)))
    else:
        for each in told:
            _tell(person, each)
    return 0


def _tell(person: str, each: Explanation) -> None:
    tell(f"{person} {each.right}: {'yes' if each.is_allowed else 'no'}")
    for reason in each.reasons:
        tell(f"  {reason}")
    tell(f"  others who may: {', '.join(each.others) or 'nobody'}")


@access.command
def report(*, org: int | None = None, as_json: Json = False) -> int:
    """List people who may both make and decide in the same place, and makers for whom nobody could decide.

    Parameters
    ----------
    org
        The organisation's number; not needed where there is one only.
    as_json
        Print one JSON document.
    """
    found = _load(org)
    if isinstance(found, int):
        return found
    at = datetime.now(UTC)
    both, without = list(explanations.both_rights(found, at)), list(explanations.without_checker(found, at))
    if as_json:
        tell(json.dumps({"bothRights": msgspec.to_builtins(both),
                         "withoutChecker": msgspec.to_builtins(without)}))  # fmt: skip
        return 0
    for each in both:
        tell(f"{each.person_id} may both make and decide at {', '.join(map(str, each.unit_ids))} and below")
    for one in without:
        tell(f"unit {one.unit_id}: {one.request_type} of {one.person_id} ({one.rule}): {one.reason}")
    tell(f"{len(both)} people with both rights in one place, {len(without)} makers without a checker")
    return 0


def _load(org: int | None) -> Organisation | int:
    try:
        with database(load_settings(os.environ)) as url:
            return asyncio.run(load_organisation(url, org))
    except NoOrganisation as error:
        return fail(str(error))
    except OUTSIDE as error:
        return fail(explain_outside(error))
