"""The keys of an installation: for encryption, for digests, for tokens; each for one purpose only.

The file holds every key that something may still be sealed with; the first one whose moment has come seals what is
new. A sealed value begins with the id of its key. Of the keys that sign access tokens each signs from its moment on
until the next one does. The key of digests stays for ever: stored digests could not be compared any more.
Keys never appear in a repr, a log or an error.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from counterfoil.domain.callers import TOKEN_SECONDS_MAX

KEY_BYTES = 32
KEY_ID_BYTES = 4
NONCE_BYTES = 12
SIGNING_BITS = 2048
LOOK_SECONDS: Final = 1.0
# By then every process of this machine has seen a changed file.
SEEN_SECONDS: Final = 3


class KeysUnusable(Exception):
    """The file of the keys is missing, readable by others or damaged; the message says what to do."""


class _SigningKey(msgspec.Struct, forbid_unknown_fields=True):
    """An RSA key in PEM. `signs_from` is a time of day in seconds; in the file the newest key is the last."""

    kid: str
    signs_from: int
    private: str


class _KeysFile(msgspec.Struct, forbid_unknown_fields=True):
    """Keys in hex; `encryption` maps a key's id (8 hex digits) to the key, the newest first.

    `seals_from` has the moment, in seconds of the time of day, of each such key that was not there from the beginning.
    """

    encryption: dict[str, str]
    digest: str
    tokens: str
    signing: list[_SigningKey] = []
    seals_from: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs access tokens from one moment until another, in seconds of the time of day."""

    kid: str
    key: RSAKey = field(repr=False)
    signs_from: int
    signs_until: float


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys, ready for use. `sealing` are the ids of those that encrypt, the newest first, with their moments."""

    ciphers: Mapping[bytes, AESGCM] = field(repr=False)
    sealing: tuple[tuple[bytes, int], ...] = field(repr=False)
    digest_key: bytes = field(repr=False)
    token_key: bytes = field(repr=False)
    signing: tuple[SigningKey, ...] = field(repr=False)

    def sealing_key(self, now: float) -> bytes:
        """The id of the key that seals at this time of day."""
        return next((key_id for key_id, moment in self.sealing if moment <= now), self.sealing[-1][0])

    def seal(self, org_id: int, request_id: UUID, name: str, value: str, *, now: float) -> bytes:
        """Encrypt a header value so that it opens only for the same organisation, request and name."""
        key_id, nonce = self.sealing_key(now), os.urandom(NONCE_BYTES)
        sealed = self.ciphers[key_id].encrypt(nonce, value.encode(), _bound_to(org_id, request_id, name))
        return key_id + nonce + sealed

    def open(self, org_id: int, request_id: UUID, name: str, sealed: bytes) -> str:
        """Decrypt what `seal` returned; raises KeysUnusable when it is not that."""
        cipher = self.ciphers.get(sealed[:KEY_ID_BYTES])
        if cipher is None:
            raise KeysUnusable(
                f"the keys file lacks the encryption key {sealed[:KEY_ID_BYTES].hex()}: put it back from a backup"
            )
        nonce = sealed[KEY_ID_BYTES : KEY_ID_BYTES + NONCE_BYTES]
        try:
            opened = cipher.decrypt(nonce, sealed[KEY_ID_BYTES + NONCE_BYTES :], _bound_to(org_id, request_id, name))
        except InvalidTag:
            raise KeysUnusable(f"a sealed value of request {request_id} was altered or is another's") from None
        return opened.decode()

    def mac(self, value: str) -> bytes:
        """A digest that shows whether two values are the same, and nothing to who lacks the key."""
        return hmac.digest(self.digest_key, value.encode(), hashlib.sha256)


def _bound_to(org_id: int, request_id: UUID, name: str) -> bytes:
    return b"%d|%s|%s" % (org_id, request_id.hex.encode(), name.lower().encode())


def create_keys(path: Path) -> None:
    """Write a file of new keys, readable by its owner only; an existing file is never overwritten."""
    keys = _KeysFile(
        encryption={secrets.token_hex(KEY_ID_BYTES): secrets.token_hex(KEY_BYTES)},
        digest=secrets.token_hex(KEY_BYTES),
        tokens=secrets.token_hex(KEY_BYTES),
        signing=[_new_signing_key(0)],
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # A link fails where a rename would replace: nobody loses the keys of what is stored.
        _write(path, keys, os.link)
    except FileExistsError:
        raise KeysUnusable(f"{path} exists already; new keys could not open what the old ones sealed") from None


def rotate_signing_key(path: Path, *, now: int, signs_from: int, drop_old: bool) -> str:
    """Add a key that signs access tokens from that moment on, and return its id; raises KeysUnusable.

    Older keys stay for the tokens that they have signed; `drop_old` ends those tokens at once.
    """
    new = _new_signing_key(signs_from)
    with _changing(path) as keys:
        earlier = [each for each in keys.signing if each.signs_from < signs_from and not drop_old]
        keys.signing = [
            each for each, following in pairwise([*earlier, new]) if following.signs_from + TOKEN_SECONDS_MAX > now
        ] + [new]
    return new.kid


def add_sealing_key(path: Path, *, seals_from: int) -> str:
    """Add a key that encrypts what is sealed from that moment on, and return its id; raises KeysUnusable."""
    key_id = secrets.token_hex(KEY_ID_BYTES)
    with _changing(path) as keys:
        keys.encryption = {key_id: secrets.token_hex(KEY_BYTES), **keys.encryption}
        keys.seals_from = {key_id: seals_from, **keys.seals_from}
    return key_id


def drop_sealing_keys(path: Path, key_ids: Collection[str]) -> None:
    """Remove keys that nothing is sealed with any more; the one that seals now is the caller's to keep."""
    with _changing(path) as keys:
        keys.encryption = {name: key for name, key in keys.encryption.items() if name not in key_ids}
        keys.seals_from = {name: moment for name, moment in keys.seals_from.items() if name not in key_ids}
        if not keys.encryption:
            raise AssertionError("the last key is never dropped (this is a bug)")


@contextmanager
def _changing(path: Path) -> Iterator[_KeysFile]:
    """The content of the file, written back as it is in the end."""
    _read(path)  # says what is wrong before anything is locked
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # of two changes at once, the second reads what the first has written
        keys = _read(path)
        yield keys
        _write(path, keys, os.replace)
    finally:
        os.close(folder)


def _new_signing_key(signs_from: int) -> _SigningKey:
    key = RSAKey.generate_key(SIGNING_BITS)
    return _SigningKey(secrets.token_hex(KEY_ID_BYTES), signs_from, key.as_pem(private=True).decode())


def _write(path: Path, keys: _KeysFile, put: Callable[[str, Path], None]) -> None:
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".keys-")  # made with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        put(unfinished, path)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    _fsync_folder(path.parent)


def _fsync_folder(folder: Path) -> None:
    """What was sealed with keys that a power cut takes away is lost: their name must be on the disk as well."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_keys(path: Path) -> Keyring:
    """Read the file of the keys; raises KeysUnusable."""
    keys = _read(path)
    try:
        ciphers = {_key_id(name): AESGCM(_key(value)) for name, value in keys.encryption.items()}
        sealing = tuple((_key_id(name), keys.seals_from.get(name, 0)) for name in keys.encryption)
        ring = Keyring(ciphers, sealing, _key(keys.digest), _key(keys.tokens), _signing_keys(keys))
    except (ValueError, JoseError):
        raise _damaged(path) from None
    if not sealing:
        raise _damaged(path)
    if not ring.signing:
        raise KeysUnusable(
            f"{path} has no key that signs access tokens: run `counterfoil keys rotate --after-minutes 0`, "
            "and copy the file to every node"
        )
    return ring


def _read(path: Path) -> _KeysFile:
    try:
        content = path.read_bytes()
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise KeysUnusable(
            f"there is no keys file {path}: copy it from another node, "
            "or make the first one with `counterfoil keys create`"
        ) from None
    except OSError as error:
        raise KeysUnusable(f"{path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise KeysUnusable(f"{path} can be read by others: run `chmod 600 {path}`")
    try:
        return msgspec.json.decode(content, type=_KeysFile)
    except (msgspec.MsgspecError, ValueError):
        raise _damaged(path) from None


def _damaged(path: Path) -> KeysUnusable:
    # Without the cause: it may quote a part of a key.
    return KeysUnusable(f"{path} is not a keys file: put it back from a backup")


def _signing_keys(keys: _KeysFile) -> tuple[SigningKey, ...]:
    ends = [*(float(each.signs_from) for each in keys.signing[1:]), float("inf")]
    return tuple(
        SigningKey(each.kid, RSAKey.import_key(each.private, {"kid": each.kid}), each.signs_from, until)
        for each, until in zip(keys.signing, ends, strict=False)
    )


class KeysInUse:
    """The keys of a running process, read again when the file has changed. `ticks` are seconds that never jump."""

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        self._path = path
        self._report = report
        self._seen = self._stamp()
        self._ring = load_keys(path)
        self._look_at = 0.0

    def current(self, ticks: float, *, at_once: bool = False) -> Keyring:
        """The keys. A file that cannot be used is told about, and leaves them as they are."""
        if at_once or ticks >= self._look_at:
            self._look_at = ticks + LOOK_SECONDS
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                try:
                    self._ring = self._read_again()
                except KeysUnusable as error:
                    self._report(str(error))
        return self._ring

    def now(self) -> Keyring:
        """The keys at this moment."""
        return self.current(time.monotonic())

    def _read_again(self) -> Keyring:
        ring = load_keys(self._path)
        if (ring.digest_key, ring.token_key) != (self._ring.digest_key, self._ring.token_key):
            raise KeysUnusable(f"{self._path} has become the keys file of another installation: put ours back")
        return ring

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def load_or_create_keys(path: Path) -> Keyring:
    """The keys of this file, made on the first start; several starting at once agree."""
    if not path.exists():
        try:
            create_keys(path)
        except KeysUnusable:
            if not path.exists():
                raise
    return load_keys(path)


def _key(value: str) -> bytes:
    key = bytes.fromhex(value)
    if len(key) != KEY_BYTES:
        raise ValueError("wrong length")
    return key


def _key_id(value: str) -> bytes:
    key_id = bytes.fromhex(value)
    if len(key_id) != KEY_ID_BYTES:
        raise ValueError("wrong length")
    return key_id
