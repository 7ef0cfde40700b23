"""`counterfoil migrate`: brings the database to the schema of this program."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack

from counterfoil.cli.serve import own_database
from counterfoil.settings import load_settings
from counterfoil.storage import migrations, privileges


def migrate(*, app_role: str | None = None) -> None:
    """Apply the migrations that have not run yet, to DATABASE_URL or to the embedded database.

    Safe to run at any time and from several nodes at once: they take turns. `serve` does it by itself on the
    embedded database only.

    Parameters
    ----------
    app_role
        A database role to give what the service needs, and no more: run `serve` as that role then.
    """
    settings = load_settings(os.environ)
    with ExitStack() as stack:
        url = settings.database_url or stack.enter_context(own_database(settings))
        applied = asyncio.run(migrations.migrate(url))
        if app_role is not None:
            asyncio.run(privileges.grant(url, app_role))
    for name in applied:
        print(f"applied {name}")  # noqa: T201 - the command's own output
    print("the schema is current")  # noqa: T201
