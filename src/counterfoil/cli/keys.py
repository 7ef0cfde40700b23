"""`counterfoil keys`: the keys of the installation."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter, validators

from counterfoil.application import operations, resealing
from counterfoil.application.keys import (
    SEEN_SECONDS,
    Keyring,
    KeysUnusable,
    add_sealing_key,
    create_keys,
    drop_sealing_keys,
    load_keys,
    rotate_signing_key,
)
from counterfoil.application.resealing import Resealing
from counterfoil.cli.org import database, operator_name
from counterfoil.cli.output import tell
from counterfoil.cli.supervisor import CannotServe
from counterfoil.settings import load_settings
from counterfoil.storage.database import open_pool

keys = App(name="keys", help="The keys that seal stored credentials and sign tokens.")
SOMETHING_REMAINS: Final = 2
# So long after its successor has begun, nobody has something in hand any more that a key has sealed.
SETTLED_SECONDS: Final = 600
TELL_SECONDS: Final = 2.0


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
    only_node: bool = False,
) -> int:
    """Add new keys to the keys file, one that signs access tokens and one that seals credentials.

    Running services take them up by themselves. Tokens that an older key has signed stay valid until they end.

    Parameters
    ----------
    after_minutes
        When the new keys start to work. Copy the file to every node before that.
    drop_old
        The old signing key was stolen: the new one signs at once, and every token of an older key ends.
    only_node
        No other node has the file: the new keys work at once, and everything stored is sealed anew right away.
    """
    path = load_settings(os.environ).keys_path
    now = int(time.time())
    later = now if only_node else now + 60 * after_minutes
    signs_from, seals_from = now if drop_old else later, max(later, now + SEEN_SECONDS)
    kid = rotate_signing_key(path, now=now, signs_from=signs_from, drop_old=drop_old)
    key_id = add_sealing_key(path, seals_from=seals_from)
    tell(f"key {kid} signs access tokens from {_moment(signs_from)} on")
    tell(f"key {key_id} seals credentials from {_moment(seals_from)} on")
    if only_node:
        return reseal()
    tell(f"copy {path} to every node before that; run `counterfoil keys reseal` afterwards")
    return 0


@keys.command
def reseal(*, drop_old: bool = False) -> int:
    """Seal everything that is stored anew with the newest key, while the service runs; safe to run again.

    Ends with 0 when nothing is sealed with an older key, with 2 when something is.

    Parameters
    ----------
    drop_old
        Remove from the keys file what nothing is sealed with any more. Copy the file to every node afterwards.
    """
    settings = load_settings(os.environ)
    ring = load_keys(settings.keys_path)
    key_id, since = ring.sealing[0]
    if since > time.time() + SEEN_SECONDS:
        raise KeysUnusable(f"key {key_id.hex()} seals from {_moment(since)} on: run this again then")
    time.sleep(max(0.0, since - time.time()))
    now = max(time.time(), since)
    with database(settings) as url:
        found = asyncio.run(_seal_anew(url, ring, now))
    remaining = _tell_result(found, key_id)
    return _drop(settings.keys_path, ring, found) | remaining if drop_old else remaining


async def _seal_anew(url: str, ring: Keyring, now: float) -> Resealing:
    if reason := await operations.why_not_usable(url):
        raise CannotServe(reason)
    pool = await open_pool(url, size=1, statement_cache=0)
    try:
        return await resealing.seal_anew(pool, ring, now=now, operator=operator_name(), tell=_progress())
    finally:
        await pool.close()


def _progress() -> Callable[[Resealing], None]:
    """What tells every few seconds how far it is; a short run tells nothing."""
    next_at = time.monotonic() + TELL_SECONDS

    def tell_progress(found: Resealing) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + TELL_SECONDS
            doing = "sealed anew" if found.values_sealed else "looked through"
            print(  # noqa: T201 - the command's own output
                f"{doing}: {found.organisations_done:,} of {found.organisations:,} organisations, "
                f"{found.requests_seen:,} requests, {found.values_sealed:,} values",
                file=sys.stderr,
            )

    return tell_progress


def _tell_result(found: Resealing, key_id: bytes) -> int:
    tell(f"{found.values_sealed:,} values sealed anew with key {key_id.hex()}")
    for old, count in sorted(found.remaining.items()):
        tell(f"{count:,} values are still sealed with key {old}")
    if not found.remaining:
        tell("nothing is sealed with an older key")
        return 0
    if found.unreadable:
        tell(f"{found.unreadable:,} of them cannot be opened: put keys that the file lacks back from a backup")
    for org_id, request_id in sorted(found.proposals):
        tell(f"organisation {org_id}: the proposed change {request_id} carries such a value: decide it")
    tell("run this again afterwards; until then keep the older keys")
    return SOMETHING_REMAINS


def _drop(path: Path, ring: Keyring, found: Resealing) -> int:
    """Remove the keys that nothing needs; what is sealed with one was sealed before its successor began."""
    (newest, since), *older = ring.sealing
    if not older:
        tell("there is no older key to drop")
        return 0
    if since + SETTLED_SECONDS > time.time():
        tell(f"no key was dropped: run this again at {_moment(since + SETTLED_SECONDS)}")
        return SOMETHING_REMAINS
    gone = [key_id.hex() for key_id, _ in older if key_id.hex() not in found.remaining and key_id != newest]
    if gone:
        drop_sealing_keys(path, gone)
        tell(f"dropped {', '.join(gone)}: copy {path} to every node; backups of before need the file of before")
    return 0


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
