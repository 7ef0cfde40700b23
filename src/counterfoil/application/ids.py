"""Ids, each made once per command and before the batch, so that a batch can be run again with the same ones."""

from __future__ import annotations

import os
import secrets
import time
from uuid import UUID

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_THREE = tuple(a + b + c for a in _ALPHABET for b in _ALPHABET for c in _ALPHABET)


def uuid7() -> UUID:
    """A UUID version 7: milliseconds of the time, then 74 random bits (Python 3.11 has none)."""
    random = int.from_bytes(os.urandom(10), "big")
    milliseconds = time.time_ns() // 1_000_000
    return UUID(
        int=(milliseconds & 0xFFFFFFFFFFFF) << 80
        | 0x7 << 76
        | (random >> 68 & 0xFFF) << 64
        | 0b10 << 62
        | random & 0x3FFFFFFFFFFFFFFF
    )


def redemption_id() -> str:
    """Six alphanumerics; they collide now and then, so a command carries a spare."""
    number = secrets.randbelow(62**6)
    first, second = divmod(number, 62**3)
    return _THREE[first] + _THREE[second]


def salt() -> bytes:
    """Sixteen random bytes for one event's commitments."""
    return os.urandom(16)
