"""How sure a value is: tests against closed forms, and by drawing worlds where truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.targets.evaluation import compare
from edgeward.targets.evaluation.metrics.base import Metric, mean, stacked

MEAN = Metric(lambda _: stacked([], 1), mean)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_mcnemar_is_the_binomial_of_what_differs(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    only = sum(a and not b for a, b in pairs)
    others = sum(b and not a for a, b in pairs)
    n, least = only + others, min(only, others)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    assert compare.mcnemar(ours, theirs) == pytest.approx(min(1.0, 2 * tail))
    assert compare.mcnemar(theirs, ours) == pytest.approx(compare.mcnemar(ours, theirs))


def test_mcnemar_of_a_textbook() -> None:
    # 9 and 1 that only one has right: 2 (C(10,0) + C(10,1)) / 2^10
    ours, theirs = [1.0] * 9 + [0.0] + [1.0] * 20, [0.0] * 9 + [1.0] + [1.0] * 20
    assert compare.mcnemar(ours, theirs) == pytest.approx(22 / 1024)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    world = np.random.default_rng(7)
    held, alarms, worlds = 0, 0, 200
    for number in range(worlds):
        both = world.normal(0, 1, (80, 1))
        ours, theirs = both + world.normal(0, 0.5, (80, 1)), both + world.normal(0, 0.5, (80, 1))
        drawn = compare.draws(80, 400, number)
        values = (compare.resampled(MEAN, ours, drawn), compare.resampled(MEAN, theirs, drawn))
        told = compare.difference(MEAN, (ours, theirs), values)
        held += told.low <= 0 <= told.high
        alarms += told.p < 0.05
    assert 0.88 <= held / worlds <= 0.99
    assert alarms / worlds <= 0.12


def test_a_real_difference_is_seen_and_draws_are_paired() -> None:
    world = np.random.default_rng(1)
    both = world.normal(0, 10, (100, 1))
    ours, theirs = both + 0.5 + world.normal(0, 0.1, (100, 1)), both
    drawn = compare.draws(100, 500, 0)
    values = (compare.resampled(MEAN, ours, drawn), compare.resampled(MEAN, theirs, drawn))
    told = compare.difference(MEAN, (ours, theirs), values)
    assert told.p < 0.01
    assert 0.4 < told.low < told.value < told.high < 0.6


def test_the_same_seed_draws_the_same() -> None:
    assert (compare.draws(9, 5, 3) == compare.draws(9, 5, 3)).all()
    assert (compare.draws(9, 5, 3) != compare.draws(9, 5, 4)).any()


def test_what_cannot_be_told_is_no_number() -> None:
    nothing = np.array([math.nan, math.nan])
    assert math.isnan(compare.interval(nothing).low)
    assert math.isnan(compare.bootstrap_p(nothing))
    assert compare.bootstrap_p(np.zeros(10)) == 1.0
    assert compare.bootstrap_p(np.ones(99)) == pytest.approx(2 / 100)
