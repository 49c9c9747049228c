"""The statistics: ratios with intervals, held against what is known to be true."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.errors import UsageError
from edgeward.targets.bench.latencies import percentile
from edgeward.targets.bench.ratio import LEAST_ROUNDS, apart_ratio, expanded, paired_ratio

DURATIONS = st.lists(st.floats(1e-6, 1e6), min_size=LEAST_ROUNDS, max_size=20)
QUICK = settings(deadline=None, max_examples=40)


def rounds(seed: int, true: float, count: int = 12) -> tuple[list[float], list[float]]:
    """Pairs whose drift is shared, whose own noise is not, with a known ratio."""
    drawn = np.random.default_rng(seed)
    drift = np.exp(np.cumsum(drawn.normal(0, 0.2, count)))
    own = np.exp(drawn.normal(0, 0.05, (2, count)))
    return list(drift * own[0]), list(true * drift * own[1])


@pytest.mark.parametrize(("true", "count"), [(1.0, 12), (1.3, 12), (1.3, 6), (0.5, 30)])
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(true: float, count: int) -> None:
    trials = 400
    held = 0
    for seed in range(trials):
        ratio = paired_ratio(*rounds(seed, true, count), seed=seed, resamples=2000)
        held += ratio.low <= true <= ratio.high
    # 95 % of 400 within four standard deviations of a binomial
    assert 0.905 <= held / trials <= 0.985


@pytest.mark.parametrize(("count", "student"), [(5, 2.776), (12, 2.201), (31, 2.042)])
def test_the_edge_is_where_students_distribution_has_it(count: int, student: float) -> None:
    wanted = NormalDist().cdf(-student * math.sqrt(count / (count - 1)))
    assert expanded(0.95, count) == pytest.approx(wanted, rel=0.03)
    assert expanded(0.95, 10**6) == pytest.approx(0.025, rel=1e-3)


def test_a_wild_round_among_few_stays_within_what_was_seen() -> None:
    a, b = [1.0] * 6, [0.57, 0.571, 0.5702, 0.5701, 0.5703, 0.65]
    ratio = paired_ratio(a, b)
    assert 0.57 <= ratio.low <= ratio.value <= ratio.high <= 0.65


def test_shared_drift_does_not_widen_the_interval() -> None:
    ratio = paired_ratio(*rounds(1, 1.3))
    assert ratio.high / ratio.low < 1.12
    assert ratio.differs
    assert apart_ratio(*rounds(1, 1.3)).high / apart_ratio(*rounds(1, 1.3)).low > 1.3


def test_skewed_noise_is_held_too() -> None:
    held = 0
    for seed in range(300):
        drawn = np.random.default_rng(seed)
        a, b = (1 + drawn.exponential(0.1, 15) for _ in range(2))
        ratio = paired_ratio(list(a), list(1.2 * b), seed=seed, resamples=1000)
        held += ratio.low <= 1.2 <= ratio.high
    assert held / 300 > 0.9


@QUICK
@given(DURATIONS, st.floats(0.01, 100))
def test_a_constant_factor_is_found_exactly(durations: list[float], factor: float) -> None:
    ratio = paired_ratio(durations, [factor * each for each in durations])
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((factor,) * 3)


@QUICK
@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=5, max_size=15))
def test_the_other_way_round_is_the_inverse(pairs: list[tuple[float, float]]) -> None:
    a, b = [list(side) for side in zip(*pairs, strict=True)]
    there, back = paired_ratio(a, b, seed=3), paired_ratio(b, a, seed=3)
    assert there.value == pytest.approx(1 / back.value)
    assert there.low == pytest.approx(1 / back.high, rel=1e-3)
    assert there.low <= there.value * (1 + 1e-9)
    assert there.value <= there.high * (1 + 1e-9)


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b = rounds(5, 1.1)
    assert paired_ratio(a, b, seed=1) == paired_ratio(a, b, seed=1)
    assert paired_ratio(a, b, seed=1) != paired_ratio(a, b, seed=2)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1.0] * 4, [1.0] * 4),
        ([1.0] * 6, [1.0] * 5),
        ([1.0] * 5, [0.0] * 5),
        ([1.0] * 5, [math.nan] * 5),
        ([1.0] * 5, [math.inf] * 5),
    ],
)
def test_what_is_no_ratio_is_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(UsageError):
        paired_ratio(a, b)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_covers_its_share(
    values: list[int], percent: int
) -> None:
    found = percentile(sorted(values), percent)
    covered = sum(each <= found for each in values)
    below = sum(each < found for each in values)
    assert found in values
    assert 100 * covered >= percent * len(values)
    assert 100 * below < percent * len(values)
