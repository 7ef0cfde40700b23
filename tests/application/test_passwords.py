"""Hashes are verified once, remembered for a while, and never by more callers than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from counterfoil.application import passwords
from counterfoil.application.passwords import REMEMBERED_SECONDS, Passwords, hash_secret, till_form
from counterfoil.domain.refusals import Busy

SECRET = b"correct horse"
HASH = hash_secret(SECRET.decode())


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What argon2 was really asked."""
    asked: list[bytes] = []
    real = passwords._matches  # noqa: SLF001 - the only way to count what is deliberately hidden

    def matches(stored_hash: str, secret: bytes) -> bool:
        asked.append(secret)
        return real(stored_hash, secret)

    monkeypatch.setattr(passwords, "_matches", matches)
    return asked


@pytest.fixture
def verifier() -> Iterator[Passwords]:
    made = Passwords(waiting_max=4)
    yield made
    made.close()


@pytest.mark.anyio
async def test_right_wrong_and_unknown(verifier: Passwords) -> None:
    assert await verifier.verify(SECRET, HASH, 0)
    assert not await verifier.verify(b"wrong", HASH, 0)
    assert not await verifier.verify(SECRET, None, 0)
    assert not await verifier.verify(SECRET, "not a hash", 0)
    assert not await verifier.verify(b"x" * 2000, HASH, 0)


@pytest.mark.anyio
async def test_it_is_remembered_for_a_while(verifier: Passwords, runs: list[bytes]) -> None:
    assert verifier.remembered(SECRET, HASH, 0) is None
    for _ in range(3):
        assert await verifier.verify(SECRET, HASH, 0)
        assert not await verifier.verify(b"wrong", HASH, 0)
    assert len(runs) == 2
    assert verifier.remembered(SECRET, HASH, REMEMBERED_SECONDS - 1) is True
    assert verifier.remembered(b"wrong", HASH, REMEMBERED_SECONDS - 1) is False
    assert verifier.remembered(SECRET, HASH, REMEMBERED_SECONDS) is None


@pytest.mark.anyio
async def test_a_changed_password_is_not_remembered(verifier: Passwords) -> None:
    assert await verifier.verify(SECRET, HASH, 0)
    assert verifier.remembered(SECRET, hash_secret("another"), 0) is None


@pytest.mark.anyio
async def test_an_unknown_login_costs_the_same_work(verifier: Passwords, runs: list[bytes]) -> None:
    await verifier.verify(b"guess", None, 0)
    await verifier.verify(b"guess", HASH, 0)
    assert runs == [b"guess", b"guess"]


@pytest.mark.anyio
async def test_concurrent_callers_share_one_verification(verifier: Passwords, runs: list[bytes]) -> None:
    assert all(await asyncio.gather(*(verifier.verify(SECRET, HASH, 0) for _ in range(50))))
    assert len(runs) == 1


@pytest.mark.anyio
async def test_a_caller_who_leaves_takes_nobody_along(verifier: Passwords) -> None:
    leaver, other = (asyncio.create_task(verifier.verify(SECRET, HASH, 0)) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    assert await other


@pytest.mark.anyio
async def test_too_many_are_refused(verifier: Passwords) -> None:
    guesses = (verifier.verify(b"guess %d" % number, HASH, 0) for number in range(6))
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert results[:4] == [False] * 4
    assert all(isinstance(result, Busy) for result in results[4:])


@pytest.mark.anyio
async def test_memory_is_bounded(verifier: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "REMEMBERED_MAX", 2)
    for secret in (b"1", b"2", b"3"):
        await verifier.verify(secret, HASH, 0)
    assert verifier.remembered(b"1", HASH, 0) is None
    assert verifier.remembered(b"3", HASH, 0) is False


def test_the_till_form_is_the_contracts() -> None:
    assert till_form("123") == "202cb962ac59075b964b07152d234b70"
