"""Access tokens of OAuth clients: signed with RS256 by a key that is published and rotated (dossier §4).

The claims are those of the original's tokens, and the client's epoch: a new secret ends older tokens.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Any, Final

import msgspec
from msgspec import Struct

from counterfoil.application.keys import KeysInUse, SigningKey
from counterfoil.application.signatures import CLOCK_SKEW_SECONDS, read_header, sign, verified_payload

REMEMBERED_MAX: Final = 20_000
_ALGORITHM: Final = "RS256"
_ISSUER: Final = "Capillary"  # what the contract's clients find there
_USE: Final = "token_access"


class _Claims(msgspec.Struct):
    iss: str
    sub: str
    client_id: str
    org_id: int
    token_use: str
    jti: str
    iat: int
    exp: int
    epoch: int


class AccessToken(Struct, frozen=True):
    """What a token of ours says; whether its client still exists is the organisation's to say."""

    org_id: int
    client: str
    epoch: int
    expires_at: int


class AccessTokens:
    """Issues tokens, and verifies each one once for as long as the keys stay. `now` is the time of day in seconds."""

    def __init__(self, keys: KeysInUse, *, seconds_max: int) -> None:
        self._keys = keys
        self._seconds_max = seconds_max
        self._decode = msgspec.json.Decoder(_Claims).decode
        self._verified: OrderedDict[bytes, AccessToken] = OrderedDict()
        self._verified_with: tuple[SigningKey, ...] = ()

    def generation(self, ticks: float) -> object:
        """Something that is the same object as long as the keys are."""
        return self._keys.current(ticks).signing

    def issue(self, org_id: int, client: str, epoch: int, seconds: int, now: float, ticks: float) -> tuple[str, int]:
        """A token for this client and its life in seconds, which an operator may have bounded."""
        keys = self._keys.current(ticks).signing
        signing = next((each for each in reversed(keys) if each.signs_from <= now), keys[0])
        seconds = min(seconds, self._seconds_max)
        issued_at = int(now)
        claims = _Claims(
            iss=_ISSUER, sub=client, client_id=client, org_id=org_id, token_use=_USE, jti=secrets.token_hex(16),
            iat=issued_at, exp=issued_at + seconds, epoch=epoch,
        )  # fmt: skip
        header = {"alg": _ALGORITHM, "kid": signing.kid}
        return sign(header, msgspec.json.encode(claims), signing.key), seconds

    def read(self, token: bytes, now: float, ticks: float) -> AccessToken | None:
        """What the token says, also when it is over; None when it is not ours or altered."""
        keys = self._keys.current(ticks).signing
        if keys is not self._verified_with:
            self._verified.clear()
            self._verified_with = keys
        found = self._verified.get(token)
        if found is None:
            found = self._verify(token, now, ticks)
            if found is None:
                return None
            self._verified[token] = found
            if len(self._verified) > REMEMBERED_MAX:
                self._verified.popitem(last=False)
        return found

    def _verify(self, token: bytes, now: float, ticks: float) -> AccessToken | None:
        header = read_header(token)
        signed_by = self._key_of(header.kid, ticks) if header and header.kid else None
        payload = verified_payload(token, signed_by.key, _ALGORITHM) if signed_by else None
        if signed_by is None or payload is None:
            return None
        try:
            claims = self._decode(payload)
        except msgspec.MsgspecError:
            return None
        # A key that has ended cannot be used to make tokens for later: they must be of its time, and short.
        of_its_time = claims.iat <= min(now, signed_by.signs_until) + CLOCK_SKEW_SECONDS
        is_short = claims.exp - claims.iat <= self._seconds_max
        is_ours = (claims.iss, claims.token_use, claims.sub) == (_ISSUER, _USE, claims.client_id)
        if not (of_its_time and is_short and is_ours):
            return None
        return AccessToken(claims.org_id, claims.client_id, claims.epoch, claims.exp)

    def _key_of(self, kid: str, ticks: float) -> SigningKey | None:
        """The key of this id; another worker may know it already."""
        for at_once in (False, True):
            for each in self._keys.current(ticks, at_once=at_once).signing:
                if each.kid == kid:
                    return each
        return None

    def published(self, ticks: float) -> dict[str, Any]:
        """The public keys as a JWKS, also those that will sign or have signed."""
        return {
            "keys": [
                {**each.key.as_dict(private=False), "use": "sig", "alg": _ALGORITHM}
                for each in self._keys.current(ticks).signing
            ]
        }
