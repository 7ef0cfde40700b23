"""Access tokens: the contract's claims, our keys, and nobody else's; keys change while tokens live."""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import KeySet, RSAKey

from counterfoil.application import access_tokens
from counterfoil.application.access_tokens import AccessToken, AccessTokens
from counterfoil.application.keys import KeysInUse, create_keys, load_keys, rotate_signing_key

NOW, TICKS = 1_790_000_000.7, 50.0
ISSUED = int(NOW)


class Issuer:
    """One process: it holds the keys that the file had, and looks again now and then."""

    def __init__(self, path: Path, *, seconds_max: int = 3600) -> None:
        self.path = path
        self.told: list[str] = []
        self.keys = KeysInUse(path, self.told.append)
        self.tokens = AccessTokens(self.keys, seconds_max=seconds_max)

    def issue(self, now: float = NOW, ticks: float = TICKS, seconds: int = 300) -> bytes:
        return self.tokens.issue(51250, "client", 3, seconds, now, ticks)[0].encode()

    def read(self, token: bytes, now: float = NOW, ticks: float = TICKS) -> AccessToken | None:
        return self.tokens.read(token, now, ticks)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A keys file that no test changes."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    create_keys(path)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """A keys file of the test's own."""
    copy = tmp_path / "keys.json"
    copy.touch(mode=0o600)
    copy.write_bytes(made.read_bytes())
    return copy


def decoded(token: bytes, part: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(b".")[part] + b"=="))
    return found


def claims(**changes: Any) -> dict[str, Any]:
    good = {
        "iss": "Capillary", "sub": "client", "client_id": "client", "org_id": 51250, "token_use": "token_access",
        "jti": "1", "iat": ISSUED, "exp": ISSUED + 300, "epoch": 3,
    }  # fmt: skip
    return good | changes


def forge(said: dict[str, Any], key: Any, header: dict[str, Any]) -> bytes:
    """A token as anybody could make it who has that key."""
    return jws.serialize_compact(header, json.dumps(said).encode(), key, [header["alg"]]).encode()


def forge_with_secret(said: dict[str, Any], secret: bytes, header: dict[str, Any]) -> bytes:
    """HS256 by hand: the library refuses to use a public key so."""
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (header, said))
    return signed + b"." + base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")


def test_it_has_the_contracts_claims(made: Path) -> None:
    """Dossier §4: RS256 with kid; iss, exp, iat, jti, sub, client_id, org_id, token_use."""
    token = Issuer(made).issue()
    [key] = load_keys(made).signing
    assert decoded(token, 0) == {"typ": "JWT", "alg": "RS256", "kid": key.kid}
    said = decoded(token, 1)
    assert said.pop("jti") != decoded(Issuer(made).issue(), 1)["jti"]
    assert said == {name: value for name, value in claims().items() if name != "jti"}


def test_whoever_has_the_published_keys_can_verify(made: Path) -> None:
    issuer = Issuer(made)
    published: Any = issuer.tokens.published(TICKS)
    assert {name for key in published["keys"] for name in key} == {"kty", "n", "e", "kid", "use", "alg"}
    keys = KeySet.import_key_set(published)
    assert json.loads(jws.deserialize_compact(issuer.issue(), keys, ["RS256"]).payload)["client_id"] == "client"


def test_what_was_issued_is_read_also_when_it_is_over(made: Path) -> None:
    issuer = Issuer(made)
    token = issuer.issue()
    for now in (NOW, NOW + 299, NOW + 301, NOW + 10_000):
        assert issuer.read(token, now) == AccessToken(51250, "client", 3, ISSUED + 300)


def test_an_operator_bounds_the_life(made: Path) -> None:
    issuer = Issuer(made, seconds_max=120)
    token, seconds = issuer.tokens.issue(1, "c", 1, 300, NOW, TICKS)
    assert seconds == 120
    assert decoded(token.encode(), 1)["exp"] == ISSUED + 120
    assert issuer.read(Issuer(made).issue(seconds=300)) is None


def test_the_forger_of_these_tests_can_forge(made: Path) -> None:
    [key] = load_keys(made).signing
    assert Issuer(made).read(forge(claims(), key.key, {"alg": "RS256", "kid": key.kid})) is not None


WRONG_CLAIMS: tuple[dict[str, Any], ...] = (
    {"iss": "counterfoil"}, {"iss": None}, {"token_use": "token_id"}, {"sub": "another"}, {"org_id": "51250"},
    {"epoch": None}, {"iat": ISSUED + 3600, "exp": ISSUED + 3700}, {"exp": ISSUED + 3601}, {"exp": 1e300},
    {"exp": None}, {"client_id": 5},
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_CLAIMS, ids=str)
def test_other_claims_are_not_ours(made: Path, wrong: dict[str, Any]) -> None:
    [key] = load_keys(made).signing
    assert Issuer(made).read(forge(claims(**wrong), key.key, {"alg": "RS256", "kid": key.kid})) is None


def test_no_other_algorithm_or_key_counts(made: Path) -> None:
    """Alg none, HS256 with the public key as secret, PS256 and RS512 with the right key, games with kid."""
    [ours] = load_keys(made).signing
    other = RSAKey.generate_key(2048)
    public = (ours.key.as_pem(private=False), json.dumps(ours.key.as_dict(private=False)).encode())
    good = {"alg": "RS256", "kid": ours.kid}
    token = forge(claims(), ours.key, good)
    head, payload, signature = token.split(b".")
    nothing = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": ours.kid}).encode()).rstrip(b"=")
    forged = [
        nothing + b"." + payload + b".",
        nothing + b"." + payload + b"." + signature,
        head + b"." + payload + b".",
        *(forge_with_secret(claims(), each, {"alg": "HS256", "kid": ours.kid}) for each in public),
        forge(claims(), ours.key, {"alg": "PS256", "kid": ours.kid}),
        forge(claims(), ours.key, {"alg": "RS512", "kid": ours.kid}),
        forge(claims(), other, good),
        forge(claims(), other, good | {"jwk": other.as_dict(private=False)}),
        forge(claims(), other, good | {"jku": "https://evil.example/jwks.json"}),
        forge(claims(), ours.key, {"alg": "RS256"}),
        forge(claims(), ours.key, {"alg": "RS256", "kid": ""}),
        forge(claims(), ours.key, {"alg": "RS256", "kid": "../keys.json"}),
        forge(claims(), ours.key, {"alg": "RS256", "kid": ours.kid.upper() + "x"}),
        head + b"." + base64.urlsafe_b64encode(json.dumps(claims(client_id="x")).encode()) + b"." + signature,
        token[:-3], b"", b"..", b"a.b.c", b"\xff.\xfe.x", b"x" * 5000, token + b"." + token,
    ]  # fmt: skip
    issuer = Issuer(made)
    assert issuer.read(token) is not None
    assert [each for each in forged if issuer.read(each) is not None] == []


def test_a_rotation_ends_no_token(path: Path) -> None:
    """One process signs with the new key, another one has not looked yet: both verify everything."""
    one, other = Issuer(path), Issuer(path)
    before = one.issue()
    assert other.read(before)
    rotate_signing_key(path, now=ISSUED, signs_from=ISSUED + 60, drop_old=False)
    assert decoded(one.issue(ticks=TICKS + 5), 0)["kid"] == decoded(before, 0)["kid"], (
        "before its time it does not sign"
    )
    after = one.issue(now=NOW + 60, ticks=TICKS + 60)
    assert decoded(after, 0)["kid"] != decoded(before, 0)["kid"]
    # At the same tick: an unknown kid alone makes it look into the file.
    assert other.read(after, NOW + 60, TICKS)
    for issuer in (one, other):
        assert issuer.read(before, NOW + 61, TICKS + 61)
    assert len(one.tokens.published(TICKS + 60)["keys"]) == 2
    assert one.told == other.told == []


def test_an_old_key_makes_no_new_tokens(path: Path) -> None:
    """Whoever has it can only make tokens of its time, and they end with the last of those."""
    [old] = load_keys(path).signing
    rotate_signing_key(path, now=ISSUED, signs_from=ISSUED, drop_old=False)
    issuer = Issuer(path)
    later = {"iat": ISSUED + 600, "exp": ISSUED + 900}
    header = {"alg": "RS256", "kid": old.kid}
    assert issuer.read(forge(claims(**later), old.key, header), NOW + 600) is None
    back_dated = {"iat": ISSUED - 1, "exp": ISSUED + 3600}
    assert issuer.read(forge(claims(**back_dated), old.key, header), NOW + 600) is None
    assert issuer.read(forge(claims(), old.key, header), NOW + 100) is not None


def test_a_stolen_key_is_dropped_with_its_tokens(path: Path) -> None:
    issuer = Issuer(path)
    token = issuer.issue()
    assert issuer.read(token)
    generation = issuer.tokens.generation(TICKS)
    rotate_signing_key(path, now=ISSUED, signs_from=ISSUED, drop_old=True)
    assert issuer.read(token, NOW, TICKS + 2) is None
    assert issuer.tokens.generation(TICKS + 2) is not generation
    assert issuer.read(issuer.issue(ticks=TICKS + 2), NOW, TICKS + 2)


def test_a_file_that_cannot_be_used_changes_nothing(path: Path) -> None:
    issuer = Issuer(path)
    token = issuer.issue()
    content = path.read_bytes()
    path.write_text("{")
    assert issuer.read(token, NOW, TICKS + 2)
    path.unlink()
    assert issuer.read(token, NOW, TICKS + 4)
    assert [("is not a keys file" in each, "there is no keys file" in each) for each in issuer.told] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert content[:30].decode() not in "".join(issuer.told)
    path.touch(mode=0o600)
    path.write_bytes(content)
    rotate_signing_key(path, now=ISSUED, signs_from=ISSUED, drop_old=False)
    assert len(issuer.keys.current(TICKS + 6).signing) == 2


def test_memory_is_bounded(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_tokens, "REMEMBERED_MAX", 2)
    issuer = Issuer(made)
    for _ in range(5):
        assert issuer.read(issuer.issue())
    assert len(issuer.tokens._verified) == 2  # noqa: SLF001 - the bound is not visible from outside


def test_verified_once(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was verified is not verified again: a signature costs as much as the rest of a call."""
    issuer = Issuer(made)
    token = issuer.issue()
    assert issuer.read(token)
    monkeypatch.setattr(access_tokens, "verified_payload", lambda *_: None)
    assert issuer.read(token)
    assert issuer.read(issuer.issue()) is None
