"""A UI token says who signed in, for a day, and nobody else can make one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from counterfoil.application import tokens
from counterfoil.application.tokens import LIFE_SECONDS, Token, Tokens

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
NOW = 1_790_000_000.7


def encode(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forge(claims: dict[str, Any], key: bytes = KEY, algorithm: str = "HS256", digest: str = "sha256") -> bytes:
    """A token as anybody could make it who has that key."""
    signed = f"{encode({'alg': algorithm, 'typ': 'JWT'})}.{encode(claims)}"
    signature = b"" if algorithm == "none" else hmac.digest(key, signed.encode(), digest)
    return signed.encode() + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")


def claims(**changes: Any) -> dict[str, Any]:
    good = {
        "id": ["232134"], "orgID": 51250, "iss": "counterfoil", "aud": "counterfoil", "iat": int(NOW),
        "exp": int(NOW) + LIFE_SECONDS, "epoch": 3,
    }  # fmt: skip
    return good | changes


def test_it_has_the_claims_of_the_originals_family() -> None:
    issued = Tokens(KEY).issue(51250, 232134, 3, NOW)
    header, payload, _ = (base64.urlsafe_b64decode(part + "==") for part in issued.split("."))
    assert json.loads(header) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(payload) == claims()


def test_what_was_issued_is_verified_until_it_ends() -> None:
    made = Tokens(KEY)
    token = made.issue(51250, 232134, 3, NOW).encode()
    for now in (NOW, NOW, NOW + LIFE_SECONDS - 1):
        assert made.verify(token, now) == Token(51250, 232134, 3, int(NOW) + LIFE_SECONDS)
    assert made.verify(token, NOW + LIFE_SECONDS) is None
    assert Tokens(KEY).verify(token, NOW + LIFE_SECONDS) is None


def test_the_forger_of_these_tests_can_forge() -> None:
    assert Tokens(KEY).verify(forge(claims()), NOW) is not None


@pytest.mark.parametrize(
    "token",
    [
        forge(claims(), key=OTHER_KEY),
        forge(claims(), algorithm="none"),
        forge(claims(), algorithm="none") + b"AAAA",
        forge(claims(), algorithm="HS512", digest="sha512"),
        forge(claims(iss="capillarytech.com")),
        forge(claims(aud="somebody")),
        forge(claims(iat=int(NOW) + 3600)),
        forge(claims(id=[])),
        forge(claims(id=["x"])),
        forge(claims(orgID="51250")),
        forge({name: value for name, value in claims().items() if name != "exp"}),
        forge({name: value for name, value in claims().items() if name != "epoch"}),
        forge(claims())[:-2],
        b"",
        b"..",
        b"a.b.c",
        b"\xff\xfe.\x00.x",
        b"x" * 5000,
    ],
)
def test_anything_else_is_not_a_token(token: bytes) -> None:
    assert Tokens(KEY).verify(token, NOW) is None


def test_a_swapped_payload_is_noticed() -> None:
    header, _, signature = Tokens(KEY).issue(51250, 232134, 3, NOW).split(".")
    assert Tokens(KEY).verify(f"{header}.{encode(claims(id=['1']))}.{signature}".encode(), NOW) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED_MAX", 2)
    made = Tokens(KEY)
    for user_id in range(5):
        assert made.verify(made.issue(1, user_id, 1, NOW).encode(), NOW)
    assert len(made._verified) == 2  # noqa: SLF001 - the bound is not visible from outside


def test_a_signature_is_hmac_sha256_of_our_key() -> None:
    signed, _, signature = Tokens(KEY).issue(1, 2, 3, NOW).rpartition(".")
    expected = hmac.new(KEY, signed.encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(signature + "==") == expected
