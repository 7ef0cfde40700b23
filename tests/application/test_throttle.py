"""Guessing gets slower; nobody else does."""

from __future__ import annotations

from contextlib import suppress

import pytest

from counterfoil.application.throttle import (
    DELAY_SECONDS_MAX,
    FORGET_SECONDS,
    FREE_FAILURES,
    SOURCE_FORGIVES_SECONDS,
    SOURCE_FREE_FAILURES,
    Throttle,
)
from counterfoil.domain.refusals import Throttled

HERE = "10.0.0.1"


def fail(throttle: Throttle, times: int, now: float = 0, source: str = HERE) -> float:
    """Fail as fast as it goes; returns when the last attempt was made."""
    for _ in range(times):
        while is_slowed(throttle, now, source=source):
            now += 1
    return now


def is_slowed(throttle: Throttle, now: float, *, login: str = "till", source: str = HERE) -> bool:
    try:
        throttle.check(login, source, now)
    except Throttled:
        return True
    return False


def test_a_few_failures_are_free() -> None:
    throttle = Throttle()
    assert fail(throttle, FREE_FAILURES) == 0


@pytest.mark.parametrize(("failures", "seconds"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (2000, 60)])
def test_the_delay_doubles_up_to_a_ceiling(failures: int, seconds: int) -> None:
    throttle = Throttle()
    now = fail(throttle, FREE_FAILURES + failures)
    with pytest.raises(Throttled) as caught:
        throttle.check("till", HERE, now + seconds - 0.5)
    assert caught.value.retry_after_seconds == 1
    throttle.check("till", HERE, now + seconds)


def test_it_says_how_long_to_wait() -> None:
    throttle = Throttle()
    now = fail(throttle, FREE_FAILURES + 20)
    with pytest.raises(Throttled, match="wait 61 s"):
        throttle.check("till", HERE, now)


def test_other_sources_and_logins_are_not_slowed() -> None:
    throttle = Throttle()
    now = fail(throttle, 20)
    throttle.check("till", "10.0.0.2", now)
    throttle.check("other", HERE, now)


def test_success_and_time_forgive() -> None:
    throttle = Throttle()
    fail(throttle, FREE_FAILURES)
    throttle.succeeded("till", HERE)
    now = fail(throttle, 100)
    later = now + FORGET_SECONDS + DELAY_SECONDS_MAX
    assert fail(throttle, FREE_FAILURES, now=later) == later


def test_attempts_made_at_once_count_before_they_are_judged() -> None:
    throttle = Throttle()
    assert [is_slowed(throttle, 0) for _ in range(60)].count(False) == FREE_FAILURES


def test_an_attempt_that_was_never_judged_is_no_failure() -> None:
    throttle = Throttle()
    for _ in range(SOURCE_FREE_FAILURES * 2):
        throttle.check("till", HERE, 0)
        throttle.take_back("till", HERE)
    assert fail(throttle, FREE_FAILURES) == 0


def test_another_login_each_time_is_slowed_as_well() -> None:
    throttle = Throttle()
    made = sum(not is_slowed(throttle, 0, login=f"login {number}") for number in range(1000))
    assert made == SOURCE_FREE_FAILURES
    with pytest.raises(Throttled, match="from your address: wait 2 s"):
        throttle.check("another", HERE, 0)
    throttle.check("another", "10.0.0.2", 0)
    an_hour = sum(not is_slowed(throttle, second, login=f"later {second}") for second in range(3600))
    assert an_hour <= 3600 / SOURCE_FORGIVES_SECONDS + 1


def test_the_delay_of_a_source_grows() -> None:
    throttle = Throttle()
    waits = []
    now = 0.0
    for number in range(SOURCE_FREE_FAILURES + 20):
        before = now
        while is_slowed(throttle, now, login=f"login {number}"):
            now += 0.25
        waits.append(now - before)
    assert waits[: SOURCE_FREE_FAILURES - 1] == [0] * (SOURCE_FREE_FAILURES - 1)
    assert waits[SOURCE_FREE_FAILURES] < waits[-1] <= DELAY_SECONDS_MAX


def test_many_tills_behind_one_address_that_are_right_are_never_slowed() -> None:
    throttle = Throttle()
    for number in range(1000):
        throttle.check(f"till {number}", HERE, 0)
        throttle.succeeded(f"till {number}", HERE)


def test_success_with_one_login_does_not_forgive_the_source() -> None:
    throttle = Throttle()
    for number in range(SOURCE_FREE_FAILURES - 1):
        throttle.check(f"login {number}", HERE, 0)
    throttle.check("mine", HERE, 0)
    throttle.succeeded("mine", HERE)
    throttle.check("one more", HERE, 0)
    assert is_slowed(throttle, 0, login="and another")


def test_memory_is_bounded() -> None:
    throttle = Throttle(entries_max=10)
    for number in range(1000):
        for _ in range(10):
            with suppress(Throttled):
                throttle.check("till", f"10.0.1.{number}", 0)
    assert not is_slowed(throttle, 0, source="10.0.1.0")
    assert is_slowed(throttle, 0, source="10.0.1.999")
