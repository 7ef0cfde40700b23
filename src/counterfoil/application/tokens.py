"""UI tokens: who the person in front of the calling system is, signed by us, for a day.

The claims are those of the original's tokens, and the user's epoch: a password change ends older tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

LIFE_SECONDS: Final = 24 * 3600
REMEMBERED_MAX: Final = 20_000
TOKEN_BYTES_MAX: Final = 4096
CLOCK_SKEW_SECONDS: Final = 60
_ALGORITHM: Final = "HS256"
_PARTY: Final = "counterfoil"


class _Claims(msgspec.Struct, rename={"organisation": "orgID"}):
    id: list[str]
    organisation: int
    iss: str
    aud: str
    iat: int
    exp: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Token:
    """What a valid token says; whether the user still exists is the organisation's to say."""

    org_id: int
    user_id: int
    epoch: int
    expires_at: int


class Tokens:
    """Issues tokens, and verifies each one once. `now` is the time of day in seconds."""

    def __init__(self, key: bytes) -> None:
        self._key = OctKey.import_key(key)
        self._algorithms = [_ALGORITHM]
        self._decode = msgspec.json.Decoder(_Claims).decode
        self._verified: OrderedDict[bytes, Token] = OrderedDict()

    def issue(self, org_id: int, user_id: int, epoch: int, now: float) -> str:
        """A token for this user, valid for LIFE_SECONDS."""
        issued_at = int(now)
        claims = _Claims([str(user_id)], org_id, _PARTY, _PARTY, issued_at, issued_at + LIFE_SECONDS, epoch)
        header = {"alg": _ALGORITHM, "typ": "JWT"}
        return jws.serialize_compact(header, msgspec.json.encode(claims), self._key, self._algorithms)

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
        if len(token) > TOKEN_BYTES_MAX:
            return None
        try:
            # Only the algorithm named here counts, whatever the token's own header says.
            read = jws.deserialize_compact(token, self._key, self._algorithms)
            claims = self._decode(read.payload)
            user_id = int(claims.id[0])
        except (JoseError, msgspec.MsgspecError, ValueError, IndexError):
            return None
        if claims.iss != _PARTY or claims.aud != _PARTY or claims.iat > now + CLOCK_SKEW_SECONDS:
            return None
        return Token(claims.organisation, user_id, claims.epoch, claims.exp)
