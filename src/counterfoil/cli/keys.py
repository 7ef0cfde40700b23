"""`counterfoil keys`: the keys of the installation."""

from __future__ import annotations

import os
import time
from typing import Annotated

from cyclopts import App, Parameter, validators

from counterfoil.application.keys import create_keys, rotate_signing_key
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


@keys.command
def rotate(
    *,
    after_minutes: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=30 * 24 * 60))] = 10,
    drop_old: bool = False,
) -> None:
    """Add a key that signs access tokens to the keys file; running services take it up by themselves.

    Tokens that an older key has signed stay valid until they end.

    Parameters
    ----------
    after_minutes
        When the new key starts to sign. Copy the file to every node before that.
    drop_old
        The old key was stolen: the new one signs at once, and every token of an older key ends.
    """
    path = load_settings(os.environ).keys_path
    now = int(time.time())
    signs_from = now if drop_old else now + 60 * after_minutes
    kid = rotate_signing_key(path, now=now, signs_from=signs_from, drop_old=drop_old)
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(signs_from))
    print(f"key {kid} signs access tokens from {when} on: copy {path} to every node before that")  # noqa: T201 - the command's own output
