"""What is taken out of a text before it is kept."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.domain.comments import masked

LOGIN = b64encode(b"ind.1:202cb962ac59075b964b07152d234b70").decode()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"sends Basic {LOGIN} each time", "sends Basic <withheld> each time"),
        (f"basic  {LOGIN.rstrip('=')}", "basic  <withheld>"),
        ("Bearer abcdefghijklmnopqrstuvwx.", "Bearer <withheld>"),
        ("it was eyJhbGciOiJIUzI1NiJ9.eyJvcmdJRCI6NX0x.c2ln!", "it was <withheld>!"),
        ("md5 202cb962ac59075b964b07152d234b70", "md5 <withheld>"),
        ("Password: hunter2, please", "Password: <withheld> please"),
        ("the api key=abc and otp : 1234", "the api key=<withheld> and otp : <withheld>"),
    ],
)
def test_secrets_are_masked(text: str, kept: str) -> None:
    assert masked(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "basic training at the store",
        "the bearer of this card",
        "request 019386f1-3c2e-7f6b-9d43-1f2a3b4c5d6e is the same",
        "she forgot her password",
        "points 1000, bill 202611230815",
    ],
)
def test_other_texts_are_kept(text: str) -> None:
    assert masked(text) == text


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_login_never_passes(before: str, after: str) -> None:
    assert LOGIN not in masked(f"{before} Basic {LOGIN} {after}")


@given(st.text(max_size=200))
def test_what_is_masked_stays_masked(text: str) -> None:
    once = masked(text)
    assert masked(once).count("<withheld>") >= once.count("<withheld>")
