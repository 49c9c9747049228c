"""The sizes that `auto` tries within a budget: the rule alone, on curves that nobody measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.compiler.fit import ROUNDS, MixedSizes
from edgeward.compiler.formats.gguf_choice import Offer, choose, largest, smallest

REST = 1000
OFFERS = {
    f"blk.{number}.ffn_up.weight": [
        Offer("q2_k", 1000 + number, 8.0 / (1 + number)),
        Offer("q4_0", 2000 + number, 2.0 / (1 + number)),
        Offer("q8_0", 4000 + number, 0.02 / (1 + number)),
    ]
    for number in range(24)
}
LEAST, MOST = smallest(OFFERS) + REST, largest(OFFERS) + REST
COSTS = [(size, choose(OFFERS, size - REST).cost) for size in range(LEAST, MOST + 1, 100)]


def searched(wanted: float, scale: float, floor: float) -> tuple[list[int], list[int]]:
    """The sizes tried, and those that kept the bound, where rounding really costs so much."""
    sizes = MixedSizes(OFFERS, REST, LEAST, MOST)
    tried, kept = [], []
    size: int | None = sizes.first(wanted)
    for _ in range(ROUNDS):
        if size is None:
            break
        tried.append(size)
        measured = choose(OFFERS, size - REST).cost * scale + floor
        found = measured <= wanted
        if found:
            kept.append(size)
        size = sizes.after(size, found, measured, wanted)
    return tried, kept


def least_size(wanted: float, scale: float, floor: float) -> int | None:
    return next((size for size, cost in COSTS if cost * scale + floor <= wanted), None)


@given(st.floats(0.5, 20), st.floats(0.3, 3, allow_nan=False), st.floats(0, 0.2, allow_nan=False))
def test_few_sizes_come_near_the_least_that_keeps_the_bound(
    wanted: float, scale: float, floor: float
) -> None:
    tried, kept = searched(wanted, scale, floor)
    assert all(LEAST <= size <= MOST for size in tried)
    assert len(set(tried)) == len(tried) <= ROUNDS
    best = least_size(wanted, scale, floor)
    if best is not None:
        assert kept
        assert min(kept) <= best + 0.12 * (MOST - LEAST)


def test_a_bound_that_nothing_keeps_ends_the_search() -> None:
    _, kept = searched(wanted=1e-6, scale=1.0, floor=1.0)
    assert kept == []


def test_what_is_thought_right_is_tried_once() -> None:
    sizes = MixedSizes(OFFERS, REST, LEAST, LEAST + 10)
    size = sizes.first(1.0)
    assert sizes.after(size, True, 0.9, 1.0) is None


@pytest.mark.parametrize("wanted", [0.0, 1e9])
def test_the_first_size_is_within_the_limits(wanted: float) -> None:
    assert LEAST <= MixedSizes(OFFERS, REST, LEAST, MOST).first(wanted) <= MOST
