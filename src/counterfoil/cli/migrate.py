"""`counterfoil migrate`: brings the database to the schema of this program."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack

from counterfoil.cli.serve import own_database
from counterfoil.settings import load_settings
from counterfoil.storage import migrations


def migrate() -> None:
    """Apply the migrations that have not run yet, to DATABASE_URL or to the embedded database.

    Safe to run at any time and from several nodes at once: they take turns. `serve` does it by itself on the
    embedded database only.
    """
    settings = load_settings(os.environ)
    with ExitStack() as stack:
        url = settings.database_url or stack.enter_context(own_database(settings))
        applied = asyncio.run(migrations.migrate(url))
    for name in applied:
        print(f"applied {name}")  # noqa: T201 - the command's own output
    print("the schema is current")  # noqa: T201
