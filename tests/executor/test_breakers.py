"""A dead host is left alone, for longer each time, and tried by one at a time."""

from counterfoil.executor.breakers import FAILURES_MAX, LONGER_MAX, Breaker


def test_it_opens_after_some_failures_in_a_row() -> None:
    breaker = Breaker(5.0)
    for _ in range(FAILURES_MAX - 1):
        assert not breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(FAILURES_MAX - 1):
        assert not breaker.failed(0.0)
    assert breaker.seconds_closed_to(0.0) == 0
    assert breaker.failed(0.0)
    assert breaker.is_open
    assert breaker.seconds_closed_to(1.0) == 4.0


def test_one_trial_at_a_time_and_longer_each_time() -> None:
    breaker = Breaker(5.0, failures=FAILURES_MAX - 1)
    breaker.failed(0.0)
    assert breaker.seconds_closed_to(5.0) == 0  # the trial
    assert breaker.seconds_closed_to(5.0) > 0  # nobody else meanwhile
    assert not breaker.failed(6.0)  # it is open already
    assert breaker.seconds_closed_to(6.0) == 10.0
    for at in range(100, 2000, 100):
        breaker.failed(float(at))
    assert breaker.seconds_closed_to(1900.0) == 5.0 * LONGER_MAX
    breaker.succeeded()
    assert (breaker.is_open, breaker.seconds_closed_to(1900.0)) == (False, 0.0)


def test_a_trial_that_never_ends_is_forgotten() -> None:
    breaker = Breaker(5.0, failures=FAILURES_MAX - 1)
    breaker.failed(0.0)
    assert breaker.seconds_closed_to(5.0) == 0
    assert breaker.seconds_closed_to(10.0) == 0
