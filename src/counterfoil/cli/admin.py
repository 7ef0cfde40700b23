"""`counterfoil admin`: what administrators of an organisation under dual control have proposed, and its decision."""

from __future__ import annotations

import sys
from typing import Any, Final
from urllib.parse import quote, urlencode

from cyclopts import App
from rich.console import Console
from rich.text import Text

from counterfoil.cli import output, remote
from counterfoil.cli.remote import Session

CHANGES: Final = "/counterfoil/v1/admin-changes"
COLOURS: Final = {"+": "green", "-": "red", "~": "yellow"}
admin = App(name="admin", help="Read and decide what other administrators have proposed.")


@admin.command(name="list")
def list_changes(*, state: str = "pending", limit: int = 25) -> int:
    """List proposed changes, the newest first.

    Parameters
    ----------
    state
        pending, succeeded or rejected; all of them when it is empty.
    limit
        How many at most, up to 100.
    """
    answer = remote.signed_in().call("GET", f"{CHANGES}?{urlencode({'state': state, 'limit': limit})}")
    console = output.console()
    for each in answer["data"]:
        counts = f"+{each['added']} ~{each['changed']} -{each['removed']}"
        by = f"{each['proposedBy']['userName']} {each['proposedAt']}"
        console.print(Text(f"{each['id']}  {each['state']}  {counts}  {by}  {each['message']}".rstrip()))
    if not answer["data"]:
        console.print("nothing there")
    if answer["nextCursor"]:
        console.print("there are more: raise --limit")
    return 0


@admin.command
def show(change_id: str) -> int:
    """Show a change with every line of its difference.

    Parameters
    ----------
    change_id
        Its id, as `list` shows it.
    """
    _show(_get(remote.signed_in(), change_id))
    return 0


@admin.command
def approve(change_id: str, *, message: str = "", yes: bool = False) -> int:
    """Approve a change: shows it, asks, and applies it at once.

    Parameters
    ----------
    change_id
        Its id, as `list` shows it.
    message
        What the audit trail keeps of your reasons.
    yes
        Do not ask: you have seen the change before.
    """
    session = remote.signed_in()
    change = _get(session, change_id)
    _show(change)
    if not yes:
        if not sys.stdin.isatty():
            raise remote.RemoteError("there is no terminal to ask on: look at it with `show`, then add --yes")
        if input("Approve? [y/N] ").strip().lower() not in ("y", "yes"):
            output.console().print("nothing was decided")
            return 1
    # What is approved is what was shown, or nothing.
    _decide(session, change, "approved", message)
    return 0


@admin.command
def reject(change_id: str, *, message: str) -> int:
    """Reject a change.

    Parameters
    ----------
    change_id
        Its id, as `list` shows it.
    message
        Why; whoever proposed it can read that.
    """
    session = remote.signed_in()
    _decide(session, _get(session, change_id), "rejected", message)
    return 0


def _get(session: Session, change_id: str) -> dict[str, Any]:
    change: dict[str, Any] = session.call("GET", f"{CHANGES}/{quote(change_id, safe='')}")["data"]
    return change


def _decide(session: Session, change: dict[str, Any], verdict: str, message: str) -> None:
    answer = session.call(
        "POST",
        f"{CHANGES}/{change['id']}/decisions",
        {"verdict": verdict, "message": message},
        {"If-Match": f'"{change["digest"]}"'},
    )
    applied = "and applied" if verdict == "approved" else "and nothing was changed"
    output.console().print(Text(f"{verdict} {applied}: {answer['data']['id']}", style="bold"))


def _show(change: dict[str, Any]) -> None:
    console = output.console()
    console.print(Text(f"{change['id']}  {change['state']}", style="bold"))
    console.print(Text(f"proposed by {change['proposedBy']['userName']} at {change['proposedAt']}"))
    if change["message"]:
        console.print(Text(f"because: {change['message']}"))
    for each in change["decisions"]:
        console.print(Text(f"{each['verdict']} by {each['userName']} at {each['decidedAt']}: {each['message']}"))
    show_lines(console, change)
    if change["state"] == "pending" and change["reason"]:
        console.print(Text(f"you cannot approve it: {change['reason']}"))


def show_lines(console: Console, change: dict[str, Any]) -> None:
    """What the change does, and whom it suspends."""
    for line in change["lines"]:
        console.print(Text(f"{line['sign']} {line['text']}", style=COLOURS.get(line["sign"], "")))
    if change["suspended"]:
        names = ", ".join(change["suspended"])
        console.print(Text(f"decide nothing for 24 hours after it, as their sign-in changes: {names}"))
