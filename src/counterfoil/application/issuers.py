"""User tokens of issuers that an organisation trusts: their keys, and what their tokens say."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, RSAKey

from counterfoil.application.keys import Keyring, KeysUnusable
from counterfoil.application.signatures import CLOCK_SKEW_SECONDS, VerifyingKey, read_header, verified_payload
from counterfoil.domain.callers import ALGORITHMS, SECRET_ALGORITHM, TrustedIssuer
from counterfoil.domain.identities import Identity
from counterfoil.domain.organisations import Organisation

SECRET_BYTES_MIN: Final = 32
RSA_BITS_MIN: Final = 2048
KEYS_MAX: Final = 20
REMEMBERED_MAX: Final = 1000
_NO_REQUEST: Final = UUID(int=0)
_SECONDS_MAX: Final = 2**53
_KINDS: Final[dict[str, type[RSAKey | ECKey]]] = {"RSA": RSAKey, "EC": ECKey}


class UnusableKey(Exception):
    """A key cannot be used with its algorithm; the message says why, without the key."""


def stored_secret(
    issuer: TrustedIssuer, told: str, known: str, org_id: int, keyring: Callable[[], Keyring] | None, *, now: float
) -> str:
    """The secret, sealed, in hex; raises UnusableKey. `known` is what is kept now, and stays if it is the same."""
    if len(told.encode()) < SECRET_BYTES_MIN:
        raise UnusableKey(f"must have at least {SECRET_BYTES_MIN} bytes: whoever guesses it can sign in as anybody")
    if "-----BEGIN" in told:
        raise UnusableKey(f"is a key in PEM, not a secret of {SECRET_ALGORITHM}: use its own algorithm")
    if keyring is None:
        raise UnusableKey("cannot be stored: there is no keys file here to seal it with")
    ring = keyring()
    with suppress(KeysUnusable):  # sealed with a key that was lost: sealed anew
        if known and _opened(issuer.issuer, known, org_id, ring) == told:
            return known
    return ring.seal(org_id, _NO_REQUEST, secret_name(issuer.issuer), told, now=now).hex()


def stored_jwks(issuer: TrustedIssuer, told: str, word: str) -> str:
    """Public keys as a JWKS with nothing in it but what is needed to verify; raises UnusableKey."""
    kind = ALGORITHMS[issuer.algorithm]
    if word == "key":
        if "PRIVATE KEY" in told:
            raise UnusableKey("is a private key, which nobody but the issuer should have: give the public one")
        return _encoded([_imported(kind, told)])
    return _encoded([_imported(kind, each) for each in _listed(issuer.algorithm, kind, told)])


def secret_name(issuer: str) -> str:
    """What the secret of an issuer is sealed as."""
    return f"uiTokenIssuer {issuer}"


def _opened(issuer: str, sealed: str, org_id: int, keyring: Keyring) -> str:
    return keyring.open(org_id, _NO_REQUEST, secret_name(issuer), bytes.fromhex(sealed))


def _listed(algorithm: str, kind: str, told: str) -> list[dict[str, Any]]:
    """The keys of a JWKS that are for this algorithm."""
    try:
        listed = msgspec.json.decode(told, type=dict[str, list[dict[str, Any]]])["keys"]
    except (msgspec.MsgspecError, KeyError):
        raise UnusableKey('must be a JWKS: {"keys": [{"kty": …}, …]}') from None
    fit = [
        each
        for each in listed
        if each.get("kty") == kind and each.get("use", "sig") == "sig" and each.get("alg", algorithm) == algorithm
    ]
    if any("d" in each or "k" in each for each in listed):
        raise UnusableKey("has a private or a secret key in it: give public ones only")
    if not 0 < len(fit) <= KEYS_MAX:
        raise UnusableKey(f"must have 1 to {KEYS_MAX} keys for {algorithm}, and has {len(fit)}")
    names = [each.get("kid") for each in fit]
    if len(fit) > 1 and (None in names or len(set(map(str, names))) < len(names)):
        raise UnusableKey("has several keys, so each must have a kid of its own")
    return fit


def _imported(kind: str, told: str | dict[str, Any]) -> RSAKey | ECKey:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the library only warns about is refused below
            key = _KINDS[kind].import_key(told)
        is_private = key.is_private
        bits = key.raw_value.key_size if isinstance(key, RSAKey) else RSA_BITS_MIN
        curve = key.curve_name if isinstance(key, ECKey) else "P-256"
    except (JoseError, ValueError, TypeError, KeyError):
        raise UnusableKey(f"has no public {kind} key that can be read, in PEM or as a JWKS") from None
    if is_private:
        raise UnusableKey("is a private key, which nobody but the issuer should have: give the public one")
    if bits < RSA_BITS_MIN or curve != "P-256":
        raise UnusableKey(f"must be an RSA key of at least {RSA_BITS_MIN} bits, or an EC key of the curve P-256")
    return key


def _encoded(keys: list[RSAKey | ECKey]) -> str:
    kept = ("kty", "kid", "n", "e", "crv", "x", "y")
    dicts = [{name: value for name, value in key.as_dict(private=False).items() if name in kept} for key in keys]
    return msgspec.json.encode({"keys": dicts}, order="sorted").decode()


class Issuers:
    """Verifies tokens of trusted issuers. The keys are made once for each form in which they were stored."""

    def __init__(self, keyring: Callable[[], Keyring]) -> None:
        self._keyring = keyring
        self._keys: dict[tuple[int, TrustedIssuer], list[VerifyingKey]] = {}

    def verify(self, organisation: Organisation, token: bytes, now: float) -> Identity | None:
        """Whom the token names, or None when no issuer that this organisation trusts has said so, or it is over."""
        header = read_header(token)
        if header is None:
            return None
        for issuer in organisation.issuers:
            key = self._key(organisation.org_id, issuer, header.kid)
            payload = verified_payload(token, key, issuer.algorithm) if key else None
            if payload is not None:
                identity = _identity(organisation.org_id, issuer, payload, now)
                if identity is not None:
                    return identity
        return None

    def _key(self, org_id: int, issuer: TrustedIssuer, kid: str | None) -> VerifyingKey | None:
        keys = self._keys.get((org_id, issuer))
        if keys is None:
            if len(self._keys) >= REMEMBERED_MAX:
                self._keys.clear()
            keys = self._keys[org_id, issuer] = self._import(org_id, issuer)
        if len(keys) == 1 and (kid is None or keys[0].kid is None):
            return keys[0]
        return next((each for each in keys if kid is not None and each.kid == kid), None)

    def _import(self, org_id: int, issuer: TrustedIssuer) -> list[VerifyingKey]:
        if issuer.algorithm == SECRET_ALGORITHM:
            return [OctKey.import_key(_opened(issuer.issuer, issuer.keys, org_id, self._keyring()).encode())]
        kind = _KINDS[ALGORITHMS[issuer.algorithm]]
        return [kind.import_key(each) for each in msgspec.json.decode(issuer.keys)["keys"]]


def _identity(org_id: int, issuer: TrustedIssuer, payload: bytes, now: float) -> Identity | None:
    try:
        claims = msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.MsgspecError:
        return None
    expires_at, not_before, issued_at = (
        _time(claims.get(name, absent)) for name, absent in (("exp", None), ("nbf", 0), ("iat", 0))
    )
    if expires_at is None or not_before is None or issued_at is None:
        return None
    if now >= expires_at or max(not_before, issued_at) > now + CLOCK_SKEW_SECONDS:
        return None
    if claims.get("iss") != issuer.issuer or _number(claims.get(issuer.organisation_claim)) != org_id:
        return None
    if issuer.audience is not None and issuer.audience not in _audiences(claims.get("aud")):
        return None
    user_id = _number(claims.get(issuer.user_id_claim)) if issuer.user_id_claim else None
    user_name = claims.get(issuer.user_name_claim) if issuer.user_name_claim else None
    if issuer.user_id_claim and user_id is None:
        return None
    if issuer.user_name_claim and not isinstance(user_name, str):
        return None
    return Identity(user_id, user_name, expires_at, issuer.decides_from)


def _time(value: object) -> float | None:
    """Seconds of the time of day; none that stand for ever."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _SECONDS_MAX:
        return float(value)
    return None


def _number(value: object) -> int | None:
    """A number that may be a text, or alone in a list, as the original's user ids are."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _audiences(value: object) -> list[object]:
    """A list, or a text that may have several with commas, as the original's tokens have."""
    if isinstance(value, str):
        return [value, *(part.strip() for part in value.split(","))]
    return value if isinstance(value, list) else []
