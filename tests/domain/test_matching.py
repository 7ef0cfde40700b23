"""Voices and places: nobody who could fill two places blocks the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from counterfoil.domain.matching import assign

PLACES = st.lists(st.lists(st.integers(0, 3), max_size=3, unique=True), max_size=4)


def most(places: list[list[int]], used: frozenset[int] = frozenset()) -> int:
    """The most places that can be filled, by trying every voice and none for each."""
    if not places:
        return 0
    first, *rest = places
    return max([most(rest, used), *(1 + most(rest, used | {voice}) for voice in first if voice not in used)])


@given(PLACES)
def test_as_many_places_are_filled_as_can_be(places: list[list[int]]) -> None:
    filled = assign(places)
    used = [voice for voice in filled if voice is not None]
    assert len(used) == len(set(used))
    assert all(voice is None or voice in place for voice, place in zip(filled, places, strict=True))
    assert len(used) == most(places)


@given(PLACES)
def test_earlier_places_come_first(places: list[list[int]]) -> None:
    """The filled places of each beginning are as many as there can be: a step is never starved by a later one."""
    filled = assign(places)
    for count in range(len(places) + 1):
        assert sum(voice is not None for voice in filled[:count]) == most(places[:count])


def test_somebody_who_can_fill_both_leaves_the_one_that_another_can_fill() -> None:
    assert assign([["both", "first"], ["both"]]) == ["first", "both"]
    assert assign([["both"], ["both"]]).count(None) == 1
