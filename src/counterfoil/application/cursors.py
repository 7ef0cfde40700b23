"""The cursor of a page: where it goes on, sealed so that it fits only the list that gave it."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

from counterfoil.application.keys import Keyring
from counterfoil.domain.inbox import Key
from counterfoil.domain.refusals import InvalidPayload

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SEAL_BYTES: Final = 12
_LENGTH: Final = 8 + 16 + _SEAL_BYTES


def write_cursor(keyring: Keyring, of_what: str, key: Key) -> str:
    """The cursor behind this key. `of_what` names the organisation, the list and its filters."""
    at, request_id = key
    place = ((at - _EPOCH) // _MICROSECOND).to_bytes(8, "big", signed=True) + request_id.bytes
    return urlsafe_b64encode(place + _seal(keyring, of_what, place)).decode()


def read_cursor(keyring: Keyring, of_what: str, cursor: str) -> Key:
    """The key of a cursor that this list gave; raises InvalidPayload for any other."""
    try:
        content = b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        content = b""
    place, seal = content[:-_SEAL_BYTES], content[-_SEAL_BYTES:]
    if len(content) != _LENGTH or not hmac.compare_digest(seal, _seal(keyring, of_what, place)):
        raise InvalidPayload(
            "the cursor is not one that this list gave: send `next` of the page before, with the same filters, "
            "or leave it out to begin at the first page",
            "cursor",
        )
    return _EPOCH + int.from_bytes(place[:8], "big", signed=True) * _MICROSECOND, UUID(bytes=place[8:])


def _seal(keyring: Keyring, of_what: str, place: bytes) -> bytes:
    """Keyed for this purpose alone."""
    message = b"cursor\x00%b\x00%b" % (place, of_what.encode("utf-8", "surrogatepass"))
    return hmac.digest(keyring.token_key, message, sha256)[:_SEAL_BYTES]
