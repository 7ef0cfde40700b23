"""`counterfoil freeze`: stop submissions, approvals and executions at once; two people let them go on."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cyclopts import App

from counterfoil.application import freezes
from counterfoil.cli import remote
from counterfoil.cli.org import database, operator_name
from counterfoil.cli.remote import RemoteError
from counterfoil.domain.freezes import REASON_MAX, Scope
from counterfoil.domain.refusals import Refusal
from counterfoil.settings import load_settings

PATH = "/counterfoil/v1/freezes"

freeze = App(name="freeze", help="Stop submissions, approvals and executions at once; two people let them go on.")


@freeze.command
def place(scope: Scope, target: str = "", *, reason: str, as_operator: int | None = None) -> int:
    """Freeze something. One person with CanFreeze is enough, and it counts with the next call everywhere.

    Parameters
    ----------
    scope
        organisation, unit (with everything below), type, host, maker or member.
    target
        Which unit, type, host (its id), maker (the staff id) or member (the number); none for the organisation.
    reason
        Why, for everybody who is stopped.
    as_operator
        The number of the organisation: freeze on the database itself, where no service and no person is at hand.
    """
    target = target.upper() if scope is Scope.TYPE else target
    if not 0 < len(reason) <= REASON_MAX:
        return _fail(f"--reason must have 1 to {REASON_MAX} characters")
    if as_operator is not None:
        return _place_as_operator(as_operator, scope, target, reason)
    return _tell("POST", PATH, {"scope": scope, "target": target, "reason": reason})


def _place_as_operator(org_id: int, scope: Scope, target: str, reason: str) -> int:
    with database(load_settings(os.environ)) as url:
        placed = asyncio.run(freezes.freeze_as_operator(url, org_id, scope, target, reason, operator_name()))
    if placed is None:
        return _fail(f"there is no organisation {org_id}")
    if isinstance(placed, Refusal):
        return _fail(placed.message)
    print(f"{placed.freeze_id} frozen: {scope} {target}")  # noqa: T201 - the command line's own output
    return 0


@freeze.command
def lift(freeze_id: str) -> int:
    """Propose to lift a freeze, or lift it if another person has proposed that.

    Parameters
    ----------
    freeze_id
        What `freeze place` and `freeze list` print.
    """
    return _tell("POST", f"{PATH}/{quote(freeze_id, safe='')}/lift", {})


@freeze.command(name="list")
def list_(*, past: bool = False) -> int:
    """Print what is frozen, by whom and since when.

    Parameters
    ----------
    past
        Also what was lifted.
    """
    return _tell("GET", f"{PATH}?limit=200&past={'true' if past else 'false'}")


def _tell(method: str, path: str, body: object = None) -> int:
    try:
        session = remote.signed_in()
        following: str | None = ""
        while following is not None:
            onward = f"&after={quote(following, safe='')}" if following else ""
            answer = session.call(method, path + onward, body)
            data = answer["data"]
            for each in data if isinstance(data, list) else [data]:
                print(_line(each))  # noqa: T201 - the command line's own output
            following = answer.get("page", {}).get("next")
    except RemoteError as error:
        return _fail(str(error))
    return 0


def _line(each: Mapping[str, Any]) -> str:
    what = f"{each['scope']} {each['target']}".strip()
    told = (
        f"{each['freezeId']} {each['state']}: {what}, by {each['placedBy']} since {each['placedAt']}: {each['reason']}"
    )
    if each["liftedBy"]:
        return f"{told}; lifted by {each['liftedBy']}"
    return f"{told}; {each['liftProposedBy']} proposes to lift it" if each["liftProposedBy"] else told


def _fail(message: str) -> int:
    print(f"counterfoil: {message}", file=sys.stderr)  # noqa: T201 - the command line's own output
    return 1
