"""Whoever has much to do does not keep the others waiting."""

from counterfoil.executor.breakers import Breaker
from counterfoil.executor.turns import FIRST_MAX, SHARE_MIN, Turns


def test_who_was_served_longest_ago_comes_first() -> None:
    turns = Turns(64)
    versions = dict.fromkeys(range(10), 1)
    for at, org_id in enumerate(reversed(range(10))):
        turns.served(org_id, float(at), is_all=False)
    assert list(turns.in_order(versions)) == list(reversed(range(10)))
    assert list(turns.in_order(dict.fromkeys((1, 3, 2), 1))) == [3, 2, 1]


def test_a_fresh_one_comes_before_all_that_were_served() -> None:
    turns = Turns(64)
    for org_id in range(10):
        turns.served(org_id, float(org_id), is_all=False)
    assert next(iter(turns.in_order(dict.fromkeys(range(11), 7)).items())) == (10, 7)


def test_who_had_little_to_do_comes_first_again() -> None:
    turns = Turns(64)
    for org_id in range(10):
        turns.served(org_id, float(org_id), is_all=org_id == 9)
    assert next(iter(turns.in_order(dict.fromkeys(range(10), 1)))) == 9


def test_who_has_no_work_is_forgotten() -> None:
    turns = Turns(64)
    for org_id in range(10):
        turns.served(org_id, float(org_id), is_all=False)
    turns.in_order({1: 1})
    assert next(iter(turns.in_order(dict.fromkeys(range(2), 1)))) == 0


def test_shares() -> None:
    turns = Turns(64)
    assert turns.share(1, 1) == FIRST_MAX
    turns.served(1, 0.0, is_all=False)
    assert (turns.share(1, 1), turns.share(1, 1000)) == (64, SHARE_MIN)


def test_a_host_answers_after_a_success() -> None:
    breaker = Breaker(5.0)
    breaker.succeeded()
    assert breaker.answers


def test_a_host_that_has_just_failed_does_not_answer() -> None:
    breaker = Breaker(5.0)
    breaker.succeeded()
    breaker.failed(0.0)
    assert not breaker.answers
