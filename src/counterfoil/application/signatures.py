"""Signed texts (JWS): read and verified the same way, whoever signed them.

The algorithm is always the verifier's: what a text says about itself only chooses among keys that are trusted
for that algorithm anyway.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from typing import Any, Final

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, RSAKey

TOKEN_BYTES_MAX: Final = 4096
CLOCK_SKEW_SECONDS: Final = 60

VerifyingKey = OctKey | RSAKey | ECKey


class Header(msgspec.Struct):
    """What a signed text says about itself."""

    alg: str
    kid: str | None = None


_decode_header: Final = msgspec.json.Decoder(Header).decode


def read_header(token: bytes) -> Header | None:
    """The header of what looks like a token, or None."""
    head, dot, _ = token.partition(b".")
    if not dot or len(token) > TOKEN_BYTES_MAX:
        return None
    try:
        return _decode_header(urlsafe_b64decode(head + b"=="))
    except (msgspec.MsgspecError, ValueError, binascii.Error):
        return None


def verified_payload(token: bytes, key: VerifyingKey, algorithm: str) -> bytes | None:
    """What was signed with this key and this algorithm, or None."""
    header = read_header(token)
    if header is None or header.alg != algorithm:
        return None
    # Headers that we do not know are fine; those that must be understood (`crit`) are refused by the library.
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    try:
        return jws.deserialize_compact(token, key, registry=registry).payload
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):  # the rest of the header may be anything
        return None


def sign(header: dict[str, Any], payload: bytes, key: VerifyingKey) -> str:
    """The payload, signed."""
    return jws.serialize_compact({"typ": "JWT"} | header, payload, key, [header["alg"]])
