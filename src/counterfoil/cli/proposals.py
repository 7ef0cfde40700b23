"""`counterfoil org apply` as an administrator: the file goes to the service, which proposes it to another one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from rich.text import Text

from counterfoil.application.administration import CannotApply
from counterfoil.application.organisation_files import MD5, Draft
from counterfoil.cli import admin, output
from counterfoil.cli.remote import Refused, Session
from counterfoil.domain.organisation_files import OrganisationFile, Problem

_SOURCES: Final = ("", "Env", "File", "Prompt")
_STEP: Final = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")


def propose(session: Session, draft: Draft, secrets: Mapping[str, str], message: str, *, dry_run: bool) -> None:
    """Send the file and show what it would change; raises CannotApply with what the service says about its fields."""
    if draft.file is None or draft.problems:
        raise CannotApply(draft.problems)
    content = with_passwords(draft.document.plain(), draft.file, secrets)
    try:
        change = session.call("POST", admin.CHANGES, {"file": content, "message": message, "dryRun": dry_run})["data"]
    except Refused as refused:
        located = [each for each in refused.errors if each.get("code") == 2008 and each.get("path") is not None]
        if not located:
            raise
        raise CannotApply(
            [Problem(each["path"], each["message"].removeprefix(f"{each['path']}: ")) for each in located]
        ) from None
    console = output.console()
    if change is None:
        console.print("nothing to change")
        return
    admin.show_lines(console, change)
    if dry_run:
        console.print(Text("dry run, nothing was proposed", style="bold"))
        return
    console.print(Text(f"proposed, not applied: {change['id']}", style="bold"))
    console.print(f"another administrator decides it: counterfoil admin approve {change['id']}", markup=False)


def with_passwords(content: Any, file: OrganisationFile, secrets: Mapping[str, str]) -> Any:
    """The file with each password, secret and key in it, wherever it came from: the service looks nowhere else."""
    for path, password in file.passwords.items():
        place = content
        for name, index in _STEP.findall(path):
            place = place[int(index)] if index else place[name]
        for name in (MD5, *(f"{password.word}{source}" for source in _SOURCES)):
            place.pop(name, None)
        if path in secrets:
            # A till's password is known here in the form in which it is sent.
            is_till = path in file.credentials and not file.credentials[path].is_client
            place[MD5 if is_till else password.word] = secrets[path]
    return content
