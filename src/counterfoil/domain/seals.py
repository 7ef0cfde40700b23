"""The form in which an audit event can be proven: canonical JSON, salted commitments, leaf hash.

The leaf hash covers commitments to personal values, never the values: after the salt and the values are
erased every proof still holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from msgspec import Struct

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
_LEAF = b"\x00counterfoil event 1\x00"


class Event(Struct, frozen=True):
    """One state change or refused access. `facts` and `personal` are JSON bytes."""

    subject_id: UUID
    event_id: UUID
    kind: str
    at: datetime
    facts: bytes
    personal: bytes
    leaf_hash: bytes


def canonical(value: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and no blanks: one byte form for one value.

    The standard library's, which who checks a proof has, too: it refuses what has no single form, such as a set.
    """
    return _encode(value).encode()


def field_salt(salt: bytes, field: str) -> bytes:
    """The salt of one field, so that disclosing one value helps nobody to guess another."""
    return sha256(salt + b"\x00" + field.encode()).digest()


def commitment(salt: bytes, field: str, value: str) -> str:
    """Hex of the salted commitment to a personal value."""
    return sha256(field_salt(salt, field) + value.encode()).hexdigest()


def leaf_hash(facts: bytes) -> bytes:
    """The hash of one event's canonical facts."""
    return sha256(_LEAF + facts).digest()


def make_event(
    subject_id: UUID,
    event_id: UUID,
    kind: str,
    at: datetime,
    salt: bytes,
    facts: Mapping[str, Any],
    personal: Mapping[str, str],
) -> Event:
    """Build an event whose personal values stand in the facts as commitments only."""
    body = canonical(
        {
            **facts,
            **{f"{field}#": commitment(salt, field, value) for field, value in personal.items()},
            "at": at.isoformat(),
            "event": str(event_id),
            "kind": kind,
            "subject": str(subject_id),
        }
    )
    kept = canonical({"salt": salt.hex(), **personal})
    return Event(subject_id, event_id, kind, at, body, kept, leaf_hash(body))
