"""The keys of an installation: for encryption, for digests, for tokens; each for one purpose only.

The file holds every key that was ever used for encryption, so that old values can be opened; the first one is
used for new values. Keys never appear in a repr, a log or an error.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
KEY_ID_BYTES = 4
NONCE_BYTES = 12


class KeysUnusable(Exception):
    """The file of the keys is missing, readable by others or damaged; the message says what to do."""


class _KeysFile(msgspec.Struct, forbid_unknown_fields=True):
    """Keys in hex; `encryption` maps a key's id (8 hex digits) to the key, the newest first."""

    encryption: dict[str, str]
    digest: str
    tokens: str


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys, ready for use."""

    ciphers: Mapping[bytes, AESGCM] = field(repr=False)
    newest: bytes = field(repr=False)
    digest_key: bytes = field(repr=False)
    token_key: bytes = field(repr=False)

    def seal(self, org_id: int, request_id: UUID, name: str, value: str) -> bytes:
        """Encrypt a header value so that it opens only for the same organisation, request and name."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self.ciphers[self.newest].encrypt(nonce, value.encode(), _bound_to(org_id, request_id, name))
        return self.newest + nonce + sealed

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
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".keys-")  # made with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        # A link fails where a rename would replace: nobody loses the keys of what is stored.
        os.link(unfinished, path)
    except FileExistsError:
        raise KeysUnusable(f"{path} exists already; new keys could not open what the old ones sealed") from None
    finally:
        Path(unfinished).unlink()
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
        keys = msgspec.json.decode(content, type=_KeysFile)
        ciphers = {_key_id(name): AESGCM(_key(value)) for name, value in keys.encryption.items()}
        newest = next(iter(ciphers))
        return Keyring(ciphers, newest, _key(keys.digest), _key(keys.tokens))
    except (msgspec.MsgspecError, ValueError, StopIteration):
        # Without the cause: it may quote a part of a key.
        raise KeysUnusable(f"{path} is not a keys file: put it back from a backup") from None


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
