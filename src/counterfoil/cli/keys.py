"""`counterfoil keys`: the keys of the installation."""

from __future__ import annotations

import os

from cyclopts import App

from counterfoil.application.keys import create_keys
from counterfoil.settings import load_settings

keys = App(name="keys", help="The keys that seal stored credentials and sign tokens.")


@keys.command
def create() -> None:
    """Make the keys file of a new installation. Every node needs the same file; keep a copy of it.

    Without it stored credentials cannot be read any more. An existing file is never overwritten.
    """
    path = load_settings(os.environ).keys_path
    create_keys(path)
    print(f"made {path}: copy it to every node, and keep a copy in a safe place")  # noqa: T201 - the command's own output
