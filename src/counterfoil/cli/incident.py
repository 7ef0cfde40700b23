"""`counterfoil incident`: what no machine can clear up, listed, shown and settled as the person who is signed in."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote, urlencode

from cyclopts import App
from rich.text import Text

from counterfoil.cli import output, remote

INCIDENTS: Final = "/counterfoil/v1/incidents"
incident = App(name="incident", help="Calls to external hosts whose outcome people must find out.")


@incident.command(name="list")
def list_incidents(*, everything: bool = False, limit: int = 50) -> int:
    """List incidents, the oldest first.

    Parameters
    ----------
    everything
        The settled ones, too.
    limit
        How many at most, up to 200.
    """
    query = urlencode({"state": "all" if everything else "open", "limit": limit})
    answer = remote.signed_in().call("GET", f"{INCIDENTS}?{query}")
    console = output.console()
    for each in answer["data"]:
        state = each["settledAs"] or "open"
        console.print(Text(f"{each['incidentId']}  {state}  {each['requestType']} at {each['hostId']}  {each['kind']}"))
    if not answer["data"]:
        console.print("nothing there")
    if answer["nextCursor"]:
        console.print("there are more: raise --limit")
    return 0


@incident.command
def show(incident_id: str) -> int:
    """Show an incident with its evidence: what was sent, what came back, what look-ups found.

    Parameters
    ----------
    incident_id
        Its id, as `list` shows it.
    """
    found = remote.signed_in().call("GET", f"{INCIDENTS}/{quote(incident_id, safe='')}")["data"]
    console = output.console()
    console.print(Text(f"{found['incidentId']}  {found['settledAs'] or 'open'}", style="bold"))
    console.print(Text(f"{found['kind']}: {found['message']}"))
    console.print(Text(f"request {found['requestId']} ({found['requestType']}, {found['state']})"))
    console.print(Text(f"host {found['hostId']}, reference {found['reference']}, opened at {found['openedAt']}"))
    console.print(Text("sent, with its secrets masked:"))
    console.print_json(json.dumps(found["sent"]))
    for each in found["attempts"]:
        when = each["sentAt"] or each["plannedAt"]
        came_to = each["outcome"] or each["state"]
        console.print(Text(f"attempt {each['number']}: {came_to}, {when}, {each['milliseconds']} ms"))
        console.print_json(json.dumps(each["response"]))
    for each in found["lookUps"]:
        console.print(Text(f"look-up {each['number']}: {each['verdict']}, {each['answeredAt']}"))
        console.print_json(json.dumps(each["response"]))
    for each in found["voices"]:
        told = f"{each['settledAs']} says {each['userName']} at {each['at']}: {each['reason']} ({each['evidence']})"
        console.print(Text(told))
    if found["settledAs"] is None:
        console.print(Text(f"{len(found['voices'])} of {found['voicesRequired']} people have said what became of it"))
    return 0


@incident.command
def settle(incident_id: str, settled_as: str, *, reason: str, evidence: str) -> int:
    """Say what became of the request; where the organisation asks for two people, both must say the same.

    Parameters
    ----------
    incident_id
        Its id, as `list` shows it.
    settled_as
        executed or not_executed.
    reason
        How you know.
    evidence
        Where it can be seen: a statement, a ticket, a redemption id.
    """
    body = {"settledAs": settled_as.replace("-", "_"), "reason": reason, "evidence": evidence}
    path = f"{INCIDENTS}/{quote(incident_id, safe='')}/settle"
    found: dict[str, Any] = remote.signed_in().call("POST", path, body)["data"]
    if found["settledAs"] is None:
        output.console().print(
            f"noted: {len(found['voices'])} of {found['voicesRequired']} people have said what became of it"
        )
    else:
        output.console().print(f"settled as {found['settledAs']}: the request has {found['state']}")
    return 0
