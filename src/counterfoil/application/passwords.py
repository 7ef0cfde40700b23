"""Password hashes: argon2id, in a few threads behind a bounded queue, and remembered for a short while.

argon2 takes some 20 ms of a core on purpose. So one verification serves all concurrent callers with the same
secret, and its result is kept, under a keyed hash of the secret and the stored hash: a changed password makes
another key. Both results are kept, as the result depends on nothing else.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b, md5
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from counterfoil.domain.refusals import Busy

THREADS: Final = 2
WAITING_MAX: Final = 64
REMEMBERED_SECONDS: Final = 300.0
REMEMBERED_MAX: Final = 20_000
SECRET_BYTES_MAX: Final = 1024

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Verified in place of the hash of an unknown login, so that it takes the same time.
_NOBODY: Final = _hasher.hash(os.urandom(16).hex())


def hash_secret(secret: str) -> str:
    """The argon2id hash to store."""
    return _hasher.hash(secret)


def till_form(password: str) -> str:
    """The form in which the contract's callers send a till's password."""
    return md5(password.encode(), usedforsecurity=False).hexdigest()


def _matches(stored_hash: str, secret: bytes) -> bool:
    try:
        return _hasher.verify(stored_hash, secret)
    except (VerificationError, InvalidHashError):
        return False


class Passwords:
    """Verifies secrets against stored hashes. `now` is any clock in seconds that does not jump."""

    def __init__(self, *, threads: int = THREADS, waiting_max: int = WAITING_MAX) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._waiting_max = waiting_max
        self._key = os.urandom(32)
        self._remembered: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}

    def remembered(self, secret: bytes, stored_hash: str, now: float) -> bool | None:
        """What the last verification of exactly this said, None if it is too long ago."""
        return self._recall(self._name(secret, stored_hash), now)

    async def verify(self, secret: bytes, stored_hash: str | None, now: float) -> bool:
        """Whether the secret is the one that was hashed; raises Busy when too many are being verified.

        None stands for a login that does not exist or has no password: it is refused in the same time.
        """
        if len(secret) > SECRET_BYTES_MAX:
            return False
        known = stored_hash is not None
        stored_hash = stored_hash or _NOBODY
        name = self._name(secret, stored_hash)
        result = self._recall(name, now)
        if result is None:
            running = self._running.get(name)
            if running is None:
                if len(self._running) >= self._waiting_max:
                    raise Busy("too many logins are being verified: send the same call again", retry_after_seconds=1)
                running = asyncio.get_running_loop().run_in_executor(self._threads, _matches, stored_hash, secret)
                self._running[name] = running
                running.add_done_callback(lambda _: self._running.pop(name, None))
            # Shielded: the caller who goes away must not take the others' answer along.
            result = await asyncio.shield(running)
            self._remember(name, result, now)
        return result and known

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _name(self, secret: bytes, stored_hash: str) -> bytes:
        # The length keeps apart what the joint alone would not.
        joined = b"%d|%b|%b" % (len(secret), secret, stored_hash.encode())
        return blake2b(joined, key=self._key, digest_size=16).digest()

    def _recall(self, name: bytes, now: float) -> bool | None:
        kept = self._remembered.get(name)
        return kept[0] if kept is not None and now < kept[1] else None

    def _remember(self, name: bytes, result: bool, now: float) -> None:  # noqa: FBT001 - the value that is kept
        self._remembered.pop(name, None)
        self._remembered[name] = (result, now + REMEMBERED_SECONDS)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
