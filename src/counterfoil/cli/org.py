"""`counterfoil org`: an organisation is described in a file, and the file is applied."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cyclopts import App
from rich.text import Text

from counterfoil.application import administration
from counterfoil.application.administration import CannotApply, PasswordSources
from counterfoil.application.keys import load_keys, load_or_create_keys
from counterfoil.application.organisation_files import Draft, read
from counterfoil.cli import output, proposals, remote
from counterfoil.cli.output import fail
from counterfoil.cli.remote import Session
from counterfoil.domain.change_lines import describe
from counterfoil.domain.organisation_changes import Difference
from counterfoil.domain.payloads import points_text
from counterfoil.http.app import RESOURCES
from counterfoil.settings import Settings, WrongSetting, load_settings
from counterfoil.storage import embedded, migrations
from counterfoil.storage.database import BLOCKED, CLASH, LOST

_COLOURS = {"+": "green", "-": "red", "~": "yellow"}

_SELF_EXPLAINING = (WrongSetting, embedded.EmbeddedError, migrations.MigrationError)
OUTSIDE = (*_SELF_EXPLAINING, *BLOCKED, *CLASH, *LOST)

org = App(name="org", help="Describe an organisation in a file and apply the file.")


@org.command
def apply(file: Path, *, message: str = "", dry_run: bool = False) -> int:
    """Make an organisation what the file says: create it, or change what differs.

    Prints each difference. Applying a file twice changes nothing the second time; a file with a problem
    changes nothing at all. Signed in to the organisation with `counterfoil login`, this proposes the change to
    another administrator; else it works on the database, which an organisation under dual control refuses.

    Parameters
    ----------
    file
        The organisation file, YAML; examples/demo-organisation.yaml shows every field.
    message
        Why, for who decides the proposal.
    dry_run
        Print the differences only, and change nothing.
    """
    try:
        draft = read(file.read_bytes(), RESOURCES)
    except OSError as error:
        return fail(f"{file}: cannot be read: {error.strerror}")
    try:
        settings = load_settings(os.environ)
        session = _session_of(draft, settings)
        if session is not None and draft.file is not None:
            secrets = administration.resolve_passwords(draft, draft.file, _sources(file, settings))
            proposals.propose(session, draft, secrets, message, dry_run=dry_run)
            return 0
        difference = _apply(file, draft, settings, dry_run=dry_run)
    except CannotApply as refused:
        return _tell_problems(file, draft, refused)
    except OUTSIDE as error:
        return fail(explain_outside(error))
    _tell_difference(difference, dry_run=dry_run)
    return 0


def explain_outside(error: Exception) -> str:
    """What to do about something that is not the file's fault."""
    if isinstance(error, _SELF_EXPLAINING):
        return str(error)
    if isinstance(error, LOST):
        return f"the database does not answer ({type(error).__name__}): check that it runs, then try again"
    return "somebody else is changing the same organisation: nothing has changed, try again"


def _apply(file: Path, draft: Draft, settings: Settings, *, dry_run: bool) -> Difference:
    if draft.file is None:
        raise CannotApply(draft.problems)
    sources = _sources(file, settings)
    with database(settings) as url:
        return asyncio.run(administration.apply_to(url, draft, sources, operator=operator_name(), dry_run=dry_run))


def _sources(file: Path, settings: Settings) -> PasswordSources:
    # The embedded database has its keys beside it; those of another one must be the service's.
    open_keys = load_keys if settings.database_url else load_or_create_keys
    ask = _ask if sys.stdin.isatty() else None
    return PasswordSources(os.environ, file.parent, ask, lambda: open_keys(settings.keys_path))


def _session_of(draft: Draft, settings: Settings) -> Session | None:
    """The session of whoever is signed in to the organisation of the file."""
    session = remote.find(settings.session_path)
    if session is None or draft.file is None or session.org_id != draft.file.settings.org_id:
        return None
    return session


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The address of the configured database, or of the embedded one, migrated and held meanwhile."""
    if settings.database_url:
        yield settings.database_url
        return
    handle = embedded.start(settings.data_dir)
    try:
        asyncio.run(migrations.migrate(handle.url))
        yield handle.url
    finally:
        embedded.stop(handle)


def _ask(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        return ""


def operator_name() -> str:
    """Whom the audit trail names for a command that an operator runs."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _tell_problems(file: Path, draft: Draft, refused: CannotApply) -> int:
    """One line for each problem, in the order of the file, in the form that editors can jump to."""
    located = [(draft.document.line(problem.path), problem) for problem in refused.problems]
    for line, problem in sorted(located, key=lambda each: each[0]):
        field = f" {problem.path}:" if problem.path else ""
        fail(f"{file}:{line}:{field} {problem.message}")
    count = len(located)
    return fail(f"{count} problem{'s' if count > 1 else ''} in {file}: nothing has changed")


def _tell_difference(difference: Difference, *, dry_run: bool) -> None:
    console = output.console()
    if not difference:
        console.print("nothing to change")
        return
    for line in describe(difference):
        console.print(Text(f"{line.sign} {line.text}", style=_COLOURS[line.sign]))
    signs = [change.sign for change in difference.records]
    signs += ["+" if member.is_new else "~" for member in difference.members]
    told = [f"{signs.count(sign):,} {word}" for sign, word in (("+", "new"), ("~", "changed"), ("-", "removed"))]
    summary = ", ".join(part for part in told if not part.startswith("0 "))
    points = sum(member.points for member in difference.members)
    if points:
        summary += f"; {points_text(points)} points awarded"
    ending = "dry run, nothing was changed" if dry_run else f"the organisation is at version {difference.version}"
    console.print(Text(f"{summary}; {ending}", style="bold"))
