"""The command line. Each command is imported when it is called: `--help` must not wait for a database driver."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App

from counterfoil.application.keys import KeysUnusable
from counterfoil.application.reconciliation import CannotReconcile
from counterfoil.cli.remote import RemoteError
from counterfoil.cli.supervisor import CannotServe
from counterfoil.settings import WrongSetting
from counterfoil.storage.database import UNUSABLE
from counterfoil.storage.embedded import EmbeddedError
from counterfoil.storage.migrations import MigrationError
from counterfoil.storage.privileges import UnusableRole

app = App(
    name="counterfoil",
    help="Maker-checker control for loyalty points: a second pair of eyes before points are spent.",
    version=lambda: version("counterfoil"),
)
app.command("counterfoil.cli.serve:serve", name="serve", help="Serve the API until Ctrl-C or SIGTERM.")
app.command("counterfoil.cli.execute:execute", name="execute", help="Execute approved requests on external hosts.")
app.command("counterfoil.cli.migrate:migrate", name="migrate", help="Bring the database to the schema of this program.")
app.command("counterfoil.cli.keys:keys", name="keys", help="The keys that seal stored credentials and sign tokens.")
app.command("counterfoil.cli.org:org", name="org", help="Describe an organisation in a file and apply the file.")
app.command(
    "counterfoil.cli.reconcile:reconcile",
    name="reconcile",
    help="Compare what was approved here with what a host has redeemed.",
)
app.command("counterfoil.cli.freeze:freeze", name="freeze", help="Stop submissions, approvals and executions at once.")
app.command("counterfoil.cli.policy:policy", name="policy", help="Try a policy with its examples, and prove it.")
app.command("counterfoil.cli.access:access", name="access", help="Who may make and decide requests, where and why.")
app.command("counterfoil.cli.login:login", name="login", help="Sign in as a person, for the commands that act for one.")
app.command("counterfoil.cli.login:logout", name="logout", help="Forget the session.")
app.command("counterfoil.cli.admin:admin", name="admin", help="Read and decide what other administrators propose.")
app.command("counterfoil.cli.incident:incident", name="incident", help="What people must find out and settle.")
app.command("counterfoil.cli.resume:resume", name="resume", help="Execute again after a restore.")
app.command("counterfoil.cli.demo:demo", name="demo", help="See one redemption from request to executed.")
app.command("counterfoil.cli.sandbox:sandbox", name="sandbox", help="Serve the points API on loopback, for tests.")

# What is the operator's to put right: said in one line, without a trace.
_EXPECTED = (
    CannotReconcile, CannotServe, EmbeddedError, KeysUnusable, MigrationError, RemoteError, UnusableRole, WrongSetting,
)  # fmt: skip
# What only files meet; most errors of files have a name as well, and none of a connection has.
_FILE_ERRORS = (errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EROFS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this process, or the one that is given."""
    try:
        app(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except _EXPECTED as error:
        sys.exit(f"counterfoil: {error}")
    except BrokenPipeError:
        sys.exit("counterfoil: nobody reads the output any more")
    except UNUSABLE as error:
        if isinstance(error, OSError) and (error.filename is not None or error.errno in _FILE_ERRORS):
            sys.exit(f"counterfoil: {error.filename or 'a file'}: {error.strerror}")
        sys.exit(f"counterfoil: the database cannot be used: {str(error) or type(error).__name__}")
