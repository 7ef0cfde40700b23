"""Password hashes: argon2id, in a few threads behind a bounded queue, and remembered for a short while.

argon2 takes some 20 ms of a core on purpose. So one verification serves all concurrent callers with the same
login and secret, and its result is kept, under a keyed hash of both and the stored hash: a changed password makes
another key. Both results are kept, as the result depends on nothing else; a right one for as long as it is used.
The login is in the name because all unknown ones share a stored hash, and none must answer for another.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b, md5
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from counterfoil.domain.refusals import Busy

THREADS: Final = 2
WAITING_MAX: Final = 64
WAITING_PER_SOURCE_MAX: Final = WAITING_MAX // 2
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

    def __init__(
        self,
        *,
        threads: int = THREADS,
        waiting_max: int = WAITING_MAX,
        waiting_per_source_max: int = WAITING_PER_SOURCE_MAX,
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._waiting_max = waiting_max
        self._waiting_per_source_max = waiting_per_source_max
        self._key = os.urandom(32)
        self._remembered: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._waiting_of: Counter[str] = Counter()

    def remembered(self, secret: bytes, stored_hash: str | None, now: float, *, login: str = "") -> bool | None:
        """What the last verification of exactly this said, None if it is too long ago."""
        return self._recall(self._name(login, secret, stored_hash or _NOBODY), now)

    def is_running(self, secret: bytes, stored_hash: str | None, *, login: str = "") -> bool:
        """Whether exactly this is being verified now, so that `verify` would only wait for the result."""
        return self._name(login, secret, stored_hash or _NOBODY) in self._running

    async def verify(
        self, secret: bytes, stored_hash: str | None, now: float, *, login: str = "", source: str | None = None
    ) -> bool:
        """Whether the secret is the one that was hashed; raises Busy when too many are being verified.

        A stored hash of None stands for a login that does not exist or has no password: it is refused in the
        same time. A source may have a part of the queue only.
        """
        if len(secret) > SECRET_BYTES_MAX:
            return False
        known = stored_hash is not None
        stored_hash = stored_hash or _NOBODY
        name = self._name(login, secret, stored_hash)
        result = self._recall(name, now)
        if result is None:
            running = self._running.get(name) or self._start(name, secret, stored_hash, source, now)
            # Shielded: the caller who goes away must not take the others' answer along.
            result = await asyncio.shield(running)
        return result and known

    def _start(
        self, name: bytes, secret: bytes, stored_hash: str, source: str | None, now: float
    ) -> asyncio.Future[bool]:
        too_many = source is not None and self._waiting_of[source] >= self._waiting_per_source_max
        if too_many or len(self._running) >= self._waiting_max:
            raise Busy("too many logins are being verified: send the same call again", retry_after_seconds=1)
        running = asyncio.get_running_loop().run_in_executor(self._threads, _matches, stored_hash, secret)
        self._running[name] = running
        if source is not None:
            self._waiting_of[source] += 1
        running.add_done_callback(lambda ended: self._ended(ended, name, source, now))
        return running

    def _ended(self, ended: asyncio.Future[bool], name: bytes, source: str | None, now: float) -> None:
        self._running.pop(name, None)
        # Here and not where it was waited for: in between, it would be neither running nor remembered.
        if not ended.cancelled() and ended.exception() is None:
            self._remember(name, ended.result(), now)
        if source is not None:
            self._waiting_of[source] -= 1
            if not self._waiting_of[source]:
                del self._waiting_of[source]

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _name(self, login: str, secret: bytes, stored_hash: str) -> bytes:
        # The lengths keep apart what the joint alone would not.
        whose = login.encode("utf-8", "surrogatepass")
        joined = b"%d|%d|%b%b%b" % (len(whose), len(secret), whose, secret, stored_hash.encode())
        return blake2b(joined, key=self._key, digest_size=16).digest()

    def _recall(self, name: bytes, now: float) -> bool | None:
        kept = self._remembered.get(name)
        if kept is None or now >= kept[1]:
            return None
        if kept[0]:
            # Who is at work stays known: to be verified anew, one would have to queue behind whoever guesses.
            self._remember(name, kept[0], now)
        return kept[0]

    def _remember(self, name: bytes, result: bool, now: float) -> None:  # noqa: FBT001 - the value that is kept
        self._remembered.pop(name, None)
        self._remembered[name] = (result, now + REMEMBERED_SECONDS)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
