"""Guessing gets slower; nobody else does."""

from __future__ import annotations

import pytest

from counterfoil.application.throttle import DELAY_SECONDS_MAX, FORGET_SECONDS, FREE_FAILURES, Throttle
from counterfoil.domain.refusals import Throttled


def fail(throttle: Throttle, times: int, now: float = 0, source: str = "10.0.0.1") -> None:
    for _ in range(times):
        throttle.failed("till", source, now)


def test_a_few_failures_are_free() -> None:
    throttle = Throttle()
    fail(throttle, FREE_FAILURES - 1)
    throttle.check("till", "10.0.0.1", 0)


@pytest.mark.parametrize(("failures", "seconds"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (5000, 60)])
def test_the_delay_doubles_up_to_a_ceiling(failures: int, seconds: int) -> None:
    throttle = Throttle()
    fail(throttle, FREE_FAILURES + failures)
    with pytest.raises(Throttled) as caught:
        throttle.check("till", "10.0.0.1", seconds - 0.5)
    assert caught.value.retry_after_seconds == 1
    throttle.check("till", "10.0.0.1", seconds)


def test_it_says_how_long_to_wait() -> None:
    throttle = Throttle()
    fail(throttle, FREE_FAILURES + 20)
    with pytest.raises(Throttled, match="wait 61 s"):
        throttle.check("till", "10.0.0.1", 0)


def test_other_sources_and_logins_are_not_slowed() -> None:
    throttle = Throttle()
    fail(throttle, 100)
    throttle.check("till", "10.0.0.2", 0)
    throttle.check("other", "10.0.0.1", 0)


def test_success_and_time_forgive() -> None:
    throttle = Throttle()
    fail(throttle, FREE_FAILURES + 1)
    throttle.succeeded("till", "10.0.0.1")
    throttle.check("till", "10.0.0.1", 0)
    fail(throttle, 100)
    fail(throttle, 1, now=FORGET_SECONDS + DELAY_SECONDS_MAX)
    throttle.check("till", "10.0.0.1", FORGET_SECONDS + DELAY_SECONDS_MAX)


def test_memory_is_bounded() -> None:
    throttle = Throttle(entries_max=10)
    for number in range(1000):
        fail(throttle, 10, source=f"10.0.1.{number}")
    throttle.check("till", "10.0.1.0", 0)
    with pytest.raises(Throttled):
        throttle.check("till", "10.0.1.999", 0)
