"""The types that a mixed GGUF's tensors get: the rule alone."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.compiler.formats.gguf_choice import Offer, choose, hull, size_for, smallest

offers = st.lists(
    st.builds(
        Offer,
        type=st.sampled_from("abcdefgh"),
        size=st.integers(1, 1000),
        cost=st.floats(0, 10, allow_nan=False),
    ),
    min_size=1,
    max_size=4,
)
tensors = st.dictionaries(st.sampled_from(["q", "k", "v", "o"]), offers, min_size=1, max_size=4)


@given(tensors, st.integers(1, 5000))
def test_no_choice_within_the_limit_is_cheaper_by_more_than_one_step(
    held: dict[str, list[Offer]], most: int
) -> None:
    if smallest(held) > most:
        with pytest.raises(ValueError, match="least"):
            choose(held, most)
        return
    found = choose(held, most)
    assert found.size <= most
    best = min(
        sum(offer.cost for offer in picked)
        for picked in itertools.product(*held.values())
        if sum(offer.size for offer in picked) <= most
    )
    largest = max(offer.cost for each in held.values() for offer in each)
    assert found.cost <= best + largest + 1e-9


@given(offers)
def test_a_hull_falls_ever_less(each: list[Offer]) -> None:
    found = hull(each)
    assert min(offer.size for offer in each) == found[0].size
    assert min(offer.cost for offer in each) == found[-1].cost
    slopes = [(a.cost - b.cost) / (b.size - a.size) for a, b in itertools.pairwise(found)]
    assert all(slope > 0 for slope in slopes)
    assert all(first >= second for first, second in itertools.pairwise(slopes))


@given(tensors, st.floats(0, 20))
def test_the_size_for_a_cost_is_enough_for_it(held: dict[str, list[Offer]], cost: float) -> None:
    cheapest = sum(min(offer.cost for offer in each) for each in held.values())
    found = choose(held, size_for(held, cost))
    assert found.cost <= max(cost, cheapest) + 1e-6


def test_bytes_go_where_they_save_most() -> None:
    held = {
        "sensitive": [Offer("q4_0", 100, 1.0), Offer("q8_0", 200, 0.0)],
        "robust": [Offer("q4_0", 100, 0.1), Offer("q8_0", 200, 0.0)],
    }
    assert choose(held, 300).types == {"sensitive": "q8_0", "robust": "q4_0"}
