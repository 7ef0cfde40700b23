"""Which voice counts for which part of a requirement: one voice for one place, nobody blocks anybody."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

V = TypeVar("V", bound=Hashable)


def assign(places: Sequence[Sequence[V]]) -> list[V | None]:
    """Give each place a voice that can fill it, each voice at most one place; None where none is left.

    Earlier places come first: a place once filled stays filled, though perhaps by another voice. So the filled
    places of each beginning of the list are as many as there can be (augmenting paths).
    """
    holder: dict[V, int] = {}
    for number in range(len(places)):
        _augment(places, number, holder, set())
    filled: list[V | None] = [None] * len(places)
    for voice, number in holder.items():
        filled[number] = voice
    return filled


def _augment(places: Sequence[Sequence[V]], number: int, holder: dict[V, int], tried: set[V]) -> bool:
    """Fill one place, moving others on where that is needed; each voice is tried once."""
    for voice in places[number]:
        if voice in tried:
            continue
        tried.add(voice)
        holding = holder.get(voice)
        if holding is None or _augment(places, holding, holder, tried):
            holder[voice] = number
            return True
    return False
