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
    made = Passwords(waiting_max=4, waiting_per_source_max=2)
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
    assert verifier.remembered(b"wrong", HASH, REMEMBERED_SECONDS - 1) is False
    assert verifier.remembered(b"wrong", HASH, REMEMBERED_SECONDS) is None
    assert verifier.remembered(SECRET, HASH, REMEMBERED_SECONDS) is None


@pytest.mark.anyio
async def test_a_right_one_is_remembered_while_it_is_used(verifier: Passwords) -> None:
    assert await verifier.verify(SECRET, HASH, 0)
    for number in range(1, 4):
        assert verifier.remembered(SECRET, HASH, number * (REMEMBERED_SECONDS - 1)) is True
    assert verifier.remembered(SECRET, HASH, 5 * REMEMBERED_SECONDS) is None


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
async def test_no_login_answers_for_another(verifier: Passwords, runs: list[bytes]) -> None:
    """All unknown logins share a stored hash: remembered together, the second would be refused faster."""
    for login in ("nobody", "nowhere", "nobody"):
        assert not await verifier.verify(SECRET, None, 0, login=login)
    assert len(runs) == 2
    await asyncio.gather(*(verifier.verify(b"other", None, 0, login=login) for login in ("nobody", "nowhere")))
    assert len(runs) == 4
    await verifier.verify(b"c", None, 0, login="ab")
    assert verifier.remembered(b"bc", None, 0, login="a") is None


@pytest.mark.anyio
async def test_a_source_has_its_part_of_the_queue(verifier: Passwords) -> None:
    guesses = (verifier.verify(b"guess %d" % number, HASH, 0, source="10.0.0.1") for number in range(4))
    others = (verifier.verify(b"other %d" % number, HASH, 0, source="10.0.0.2") for number in range(2))
    results = await asyncio.gather(*guesses, *others, return_exceptions=True)
    assert results[:2] + results[4:] == [False] * 4
    assert all(isinstance(result, Busy) for result in results[2:4])
    assert not await verifier.verify(b"later", HASH, 0, source="10.0.0.1")


@pytest.mark.anyio
async def test_what_runs_is_known(verifier: Passwords) -> None:
    running = asyncio.create_task(verifier.verify(SECRET, HASH, 0, login="a"))
    await asyncio.sleep(0)
    assert verifier.is_running(SECRET, HASH, login="a")
    assert not verifier.is_running(SECRET, HASH, login="b")
    assert await running
    await asyncio.sleep(0)
    assert not verifier.is_running(SECRET, HASH, login="a")


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
