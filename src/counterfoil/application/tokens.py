"""UI tokens: who the person in front of the calling system is, signed by us, for a day.

The claims are those of the original's tokens, and the user's epoch: a password change ends older tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec
from joserfc.jwk import OctKey
from msgspec import Struct

from counterfoil.application.signatures import CLOCK_SKEW_SECONDS, sign, verified_payload
from counterfoil.domain.callers import OWN_ISSUER

LIFE_SECONDS: Final = 24 * 3600
REMEMBERED_MAX: Final = 20_000
_ALGORITHM: Final = "HS256"
_PARTY: Final = OWN_ISSUER


class _Claims(msgspec.Struct, rename={"organisation": "orgID"}):
    id: list[str]
    organisation: int
    iss: str
    aud: str
    iat: int
    exp: int
    epoch: int


class Token(Struct, frozen=True):
    """What a valid token says; whether the user still exists is the organisation's to say."""

    org_id: int
    user_id: int
    epoch: int
    expires_at: int


class Tokens:
    """Issues tokens, and verifies each one once. `now` is the time of day in seconds."""

    def __init__(self, key: bytes) -> None:
        self._key = OctKey.import_key(key)
        self._decode = msgspec.json.Decoder(_Claims).decode
        self._verified: OrderedDict[bytes, Token] = OrderedDict()

    def issue(self, org_id: int, user_id: int, epoch: int, now: float) -> str:
        """A token for this user, valid for LIFE_SECONDS."""
        issued_at = int(now)
        claims = _Claims([str(user_id)], org_id, _PARTY, _PARTY, issued_at, issued_at + LIFE_SECONDS, epoch)
        return sign({"alg": _ALGORITHM}, msgspec.json.encode(claims), self._key)

    def verify(self, token: bytes, now: float) -> Token | None:
        """What the token says, or None when it is not ours, altered or over."""
        verified = self._verified.get(token)
        if verified is None:
            verified = self._read(token, now)
            if verified is None:
                return None
            self._verified[token] = verified
            if len(self._verified) > REMEMBERED_MAX:
                self._verified.popitem(last=False)
        return verified if now < verified.expires_at else None

    def _read(self, token: bytes, now: float) -> Token | None:
        payload = verified_payload(token, self._key, _ALGORITHM)
        try:
            claims = self._decode(payload or b"")
            user_id = int(claims.id[0])
        except (msgspec.MsgspecError, ValueError, IndexError):
            return None
        if claims.iss != _PARTY or claims.aud != _PARTY or claims.iat > now + CLOCK_SKEW_SECONDS:
            return None
        return Token(claims.organisation, user_id, claims.epoch, claims.exp)
