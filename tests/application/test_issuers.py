"""User tokens of other issuers: whom they name, and everything that must not be believed."""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from counterfoil.application.issuers import Issuers, UnusableKey, stored_jwks, stored_secret
from counterfoil.application.keys import Keyring, load_or_create_keys
from counterfoil.domain.callers import TrustedIssuer
from counterfoil.domain.identities import Identity, named_user
from tests import builders

NOW = 1_790_000_000.7
ORG = 51250
SECRET = "a secret of an issuer, long enough to be one"
RSA, OTHER_RSA, EC = RSAKey.generate_key(2048), RSAKey.generate_key(2048), ECKey.generate_key("P-256")

SHORT_RSA = (
    rsa.generate_private_key(65537, 1024)  # noqa: S505 - it must be refused
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    path: Path = tmp_path_factory.mktemp("keys")
    return load_or_create_keys(path / "keys.json")


def issuer(algorithm: str = "RS256", **changes: Any) -> TrustedIssuer:
    fields: dict[str, Any] = {
        "issuer": "capillarytech.com", "algorithm": algorithm, "organisation_claim": "orgID", "user_id_claim": "id",
    }  # fmt: skip
    return TrustedIssuer(**(fields | changes))


def public(key: RSAKey | ECKey) -> str:
    return key.as_pem(private=False).decode()


def jwks(*keys: dict[str, Any]) -> str:
    return json.dumps({"keys": keys})


def trusting(keyring: Keyring, *issuers: TrustedIssuer) -> Any:
    """What verifies tokens for an organisation that trusts these."""
    organisation = builders.organisation(issuers=issuers)
    verifier = Issuers(lambda: keyring)
    return lambda token, now=NOW: verifier.verify(organisation, token, now)


def claims(**changes: Any) -> dict[str, Any]:
    """Those of the token that the original's pages print (dossier §4)."""
    good = {
        "id": ["232134"], "orgID": "51250", "iss": "capillarytech.com", "aud": "capillary,intouch,arya,reon,apps",
        "iat": int(NOW), "exp": int(NOW) + 86400, "source": "WEBAPP",
    }  # fmt: skip
    return good | changes


def token(key: Any, algorithm: str = "RS256", header: dict[str, Any] | None = None, **changes: Any) -> bytes:
    said = {name: value for name, value in claims(**changes).items() if value is not ...}
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    head = {"alg": algorithm} | (header or {})
    return jws.serialize_compact(head, json.dumps(said).encode(), key, registry=registry).encode()


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256"])
@pytest.mark.parametrize("word", ["key", "jwks"])
def test_public_keys_of_every_algorithm(keyring: Keyring, algorithm: str, word: str) -> None:
    key = EC if algorithm == "ES256" else RSA
    told = public(key) if word == "key" else jwks(key.as_dict(private=False) | {"kid": "a"})
    trusted = issuer(algorithm)
    trusted = issuer(algorithm, keys=stored_jwks(trusted, told, word))
    verify = trusting(keyring, trusted)
    good = token(key, algorithm, {"kid": "a"} if word == "jwks" else None)
    assert verify(good) == Identity(232134, None, int(NOW) + 86400)
    assert verify(good, NOW + 86400) is None
    assert verify(token(ECKey.generate_key("P-256") if algorithm == "ES256" else OTHER_RSA, algorithm)) is None


def test_a_secret(keyring: Keyring) -> None:
    sealed = stored_secret(issuer("HS256"), SECRET, "", ORG, lambda: keyring, now=NOW)
    assert SECRET.encode().hex() not in sealed
    assert SECRET not in repr(issuer("HS256", keys=SECRET))
    verify = trusting(keyring, issuer("HS256", keys=sealed))
    assert verify(token(OctKey.import_key(SECRET.encode()), "HS256")) is not None
    assert verify(token(OctKey.import_key(SECRET.upper().encode()), "HS256")) is None
    assert stored_secret(issuer("HS256"), SECRET, sealed, ORG, lambda: keyring, now=NOW) == sealed, "the same one stays"
    assert stored_secret(issuer("HS256"), SECRET + "2", sealed, ORG, lambda: keyring, now=NOW) != sealed


def test_a_secret_is_sealed_anew_when_the_keys_were_lost(keyring: Keyring, tmp_path: Path) -> None:
    sealed = stored_secret(issuer("HS256"), SECRET, "", ORG, lambda: keyring, now=NOW)
    other = load_or_create_keys(tmp_path / "other.json")
    again = stored_secret(issuer("HS256"), SECRET, sealed, ORG, lambda: other, now=NOW)
    verify = trusting(other, issuer("HS256", keys=again))
    assert verify(token(OctKey.import_key(SECRET.encode()), "HS256")) is not None


@pytest.mark.parametrize(
    ("algorithm", "word", "told", "why"),
    [
        ("HS256", "secret", "short", "32 bytes"),
        ("HS256", "secret", public(RSA), "PEM"),
        ("RS256", "key", "nonsense", "no public RSA key"),
        ("RS256", "key", RSA.as_pem(private=True).decode(), "private key"),
        ("RS256", "key", public(EC), "no public RSA key"),
        ("RS256", "key", SHORT_RSA, "2048 bits"),
        ("ES256", "key", public(RSA), "no public EC key"),
        ("ES256", "key", public(ECKey.generate_key("P-384")), "P-256"),
        ("RS256", "jwks", "{", "must be a JWKS"),
        ("RS256", "jwks", "[]", "must be a JWKS"),
        ("RS256", "jwks", jwks(), "has 0"),
        ("RS256", "jwks", jwks(EC.as_dict(private=False)), "has 0"),
        ("RS256", "jwks", jwks(RSA.as_dict(private=True)), "private or a secret"),
        ("RS256", "jwks", jwks({"kty": "oct", "k": "c2VjcmV0"}), "private or a secret"),
        ("RS256", "jwks", jwks(RSA.as_dict(private=False) | {"use": "enc"}), "has 0"),
        ("RS256", "jwks", jwks(RSA.as_dict(private=False) | {"alg": "RS512"}), "has 0"),
        ("RS256", "jwks", jwks(*({"kty": "RSA", "n": "AQAB", "e": "AQAB"} for _ in range(2))), "kid of its own"),
        ("RS256", "jwks", jwks({"kty": "RSA", "n": 5, "e": "AQAB"}), "no public RSA key"),
    ],
)
def test_keys_that_cannot_be_used(keyring: Keyring, algorithm: str, word: str, told: str, why: str) -> None:
    def store() -> str:
        if word == "secret":
            return stored_secret(issuer(algorithm), told, "", ORG, lambda: keyring, now=NOW)
        return stored_jwks(issuer(algorithm), told, word)

    with pytest.raises(UnusableKey, match=why) as caught:
        store()
    assert len(told) < 3 or told not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_key_set_is_chosen_from_by_kid(keyring: Keyring) -> None:
    told = jwks(*(key.as_dict(private=False) | {"kid": kid} for key, kid in ((RSA, "a"), (OTHER_RSA, "b"))))
    verify = trusting(keyring, issuer(keys=stored_jwks(issuer(), told, "jwks")))
    assert verify(token(RSA, header={"kid": "a"}))
    assert verify(token(OTHER_RSA, header={"kid": "b"}))
    for header in ({"kid": "b"}, {"kid": "c"}, {}, {"kid": "a", "jwk": RSA.as_dict(private=False), "alg": "RS256"}):
        wrong = OTHER_RSA if header.get("kid") == "a" else RSA
        assert verify(token(wrong, header=header)) is None, header


def test_the_algorithm_is_never_the_tokens(keyring: Keyring) -> None:
    """HS256 with the public key as its secret, none, another algorithm of the same key, keys in the header."""
    pem = public(RSA)
    verify = trusting(keyring, issuer(keys=stored_jwks(issuer(), pem, "key")))

    def signed(header: dict[str, Any], secret: str | None) -> bytes:
        said = b".".join(base64.urlsafe_b64encode(json.dumps(x).encode()).rstrip(b"=") for x in (header, claims()))
        signature = b"" if secret is None else hmac.digest(secret.encode(), said, "sha256")
        return said + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")

    stored = stored_jwks(issuer(), pem, "key")
    for wrong in (
        *(signed({"alg": "HS256"}, each) for each in (pem, pem.strip(), stored, json.dumps(json.loads(stored)))),
        signed({"alg": "none"}, None), signed({"alg": "None"}, None), signed({}, pem), signed({"alg": ""}, None),
        token(RSA, "PS256"), token(RSA, "RS512"), token(OTHER_RSA, header={"jwk": OTHER_RSA.as_dict(private=False)}),
        token(OTHER_RSA, header={"jku": "https://evil.example/"}),
        token(RSA)[:-4], token(RSA) + b"x", b"", b"..", b"x" * 5000,
    ):  # fmt: skip
        assert verify(wrong) is None, wrong
    secret = stored_secret(issuer("HS256"), SECRET, "", ORG, lambda: keyring, now=NOW)
    assert trusting(keyring, issuer("HS256", keys=secret))(token(RSA)) is None


def test_headers_that_we_do_not_know_are_fine(keyring: Keyring) -> None:
    verify = trusting(keyring, issuer(keys=stored_jwks(issuer(), public(RSA), "key")))
    assert verify(token(RSA, header={"typ": "JWT", "x5t": "abc", "nonce": "1", "kid": "whatever"}))


WRONG: tuple[dict[str, Any], ...] = (
    {"iss": "counterfoil"}, {"iss": "capillarytech.com.evil"}, {"iss": ...}, {"iss": ["capillarytech.com"]},
    {"orgID": 51251}, {"orgID": ...}, {"orgID": None}, {"orgID": [51250, 51251]}, {"orgID": True},
    {"exp": ...}, {"exp": int(NOW)}, {"exp": "9999999999"}, {"exp": True}, {"exp": 1e300}, {"exp": -1},
    {"nbf": int(NOW) + 3600}, {"nbf": "x"}, {"iat": int(NOW) + 3600}, {"iat": []},
    {"id": ...}, {"id": []}, {"id": ["1", "2"]}, {"id": "x"}, {"id": {}}, {"id": "-1"}, {"id": "٢٣"}, {"id": True},
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_claims_that_do_not_count(keyring: Keyring, wrong: dict[str, Any]) -> None:
    verify = trusting(keyring, issuer(keys=stored_jwks(issuer(), public(RSA), "key")))
    assert verify(token(RSA, **wrong)) is None


@pytest.mark.parametrize(
    "good", [{"id": 232134}, {"id": "232134"}, {"orgID": 51250}, {"orgID": ["51250"]}, {"iat": ...}]
)
def test_numbers_as_issuers_write_them(keyring: Keyring, good: dict[str, Any]) -> None:
    verify = trusting(keyring, issuer(keys=stored_jwks(issuer(), public(RSA), "key")))
    assert verify(token(RSA, **good)) == Identity(232134, None, int(NOW) + 86400)


@pytest.mark.parametrize(
    ("audience", "taken"),
    [
        ("intouch", True), ("capillary,intouch,arya,reon,apps", True), (["x", "intouch"], True), ("x", False),
        (["intouchx"], False), (..., False), ([["intouch"]], False), (5, False), ("", False),
    ],
)  # fmt: skip
def test_the_audience(keyring: Keyring, audience: object, taken: bool) -> None:  # noqa: FBT001
    verify = trusting(keyring, issuer(audience="intouch", keys=stored_jwks(issuer(), public(RSA), "key")))
    assert (verify(token(RSA, aud=audience)) is not None) is taken


def test_several_issuers_are_kept_apart(keyring: Keyring) -> None:
    """A key of one counts for that one only, and for the organisation that trusts it."""
    one = issuer(keys=stored_jwks(issuer(), public(RSA), "key"))
    two = issuer(issuer="two", keys=stored_jwks(issuer(), public(OTHER_RSA), "key"))
    verify = trusting(keyring, one, two)
    assert verify(token(RSA))
    assert verify(token(OTHER_RSA, iss="two"))
    assert verify(token(RSA, iss="two")) is None
    assert verify(token(OTHER_RSA)) is None
    assert trusting(keyring)(token(RSA)) is None


def test_the_user_behind_a_token() -> None:
    organisation = builders.organisation()
    maker = organisation.users[232134]
    for user_id, name, found in (
        (232134, None, maker),
        (None, maker.user_name.upper(), maker),
        (232134, maker.user_name, maker),
        (232135, maker.user_name, None),
        (232134, "nobody", None),
        (1, None, None),
        (None, "nobody", None),
        (None, None, None),
    ):
        assert named_user(organisation, Identity(user_id, name, NOW)) is found


def test_names_of_users(keyring: Keyring) -> None:
    by_name = issuer(user_id_claim=None, user_name_claim="preferred_username")
    verify = trusting(keyring, issuer(user_id_claim=None, user_name_claim="preferred_username",
                                      keys=stored_jwks(by_name, public(RSA), "key")))  # fmt: skip
    assert verify(token(RSA, preferred_username="a@b.c")) == Identity(None, "a@b.c", int(NOW) + 86400)
    for wrong in (..., 5, None, ["a@b.c"]):
        assert verify(token(RSA, preferred_username=wrong)) is None


def test_an_okp_key_is_no_key_of_ours() -> None:
    with pytest.raises(UnusableKey):
        stored_jwks(issuer(), jwks(OKPKey.generate_key("Ed25519").as_dict(private=False)), "jwks")
