"""How sure a value is, and whether two bundles differ on the same cases.

Right or wrong: McNemar's exact test (McNemar 1947; binomial over the cases that differ). All else:
the paired bootstrap (Efron and Tibshirani 1993; of BLEU, Koehn 2004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .metrics.base import Metric, Rows

MCNEMAR, BOOTSTRAP = "mcnemar exact", "paired bootstrap"
_LOW, _HIGH = 2.5, 97.5


@dataclass(frozen=True, slots=True)
class Interval:
    """The 95 % percentile interval of a value; NaN where no draw told one."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The bundle's value less the other's, its 95 % interval, and how likely by chance."""

    value: float
    low: float
    high: float
    p: float
    test: str


def draws(cases: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Return (resamples, cases) numbers of cases, drawn with replacement."""
    return np.random.default_rng(seed).integers(0, cases, (resamples, cases))


def resampled(metric: Metric, rows: Rows, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the metric's value of each draw."""
    value = metric.again or metric.value
    return np.array([value(rows[picked]) for picked in drawn], np.float64)


def interval(values: NDArray[np.float64]) -> Interval:
    """Return the interval of a bootstrap's values; what is not finite is left out."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Interval(float("nan"), float("nan"))
    low, high = np.percentile(finite, (_LOW, _HIGH))
    return Interval(float(low), float(high))


def difference(
    metric: Metric,
    sides: tuple[Rows, Rows],
    values: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> Difference:
    """Compare two bundles on the same cases; `values` are of the same draws of both."""
    apart = values[0] - values[1]
    told = interval(apart)
    value = metric.value(sides[0]) - metric.value(sides[1])
    if metric.counts:
        p, test = mcnemar(sides[0][:, 0], sides[1][:, 0]), MCNEMAR
    else:
        p, test = bootstrap_p(apart), BOOTSTRAP
    return Difference(value, told.low, told.high, p, test)


def check_library() -> None:
    """Raise ModuleNotFoundError where the library of a comparison is not installed."""
    _binomial()


def mcnemar(right: Sequence[float] | Rows, other: Sequence[float] | Rows) -> float:
    """Return how likely the cases that only one has right are shared so by chance, two-sided."""
    binomial = _binomial()
    ours, theirs = np.asarray(right) > 0, np.asarray(other) > 0
    only, others = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return float(binomial(only, only + others, 0.5).pvalue) if only + others else 1.0


def bootstrap_p(differences: NDArray[np.float64]) -> float:
    """Return twice the smaller share of draws on either side of none, at most 1.

    One is added to both counts, as Davison and Hinkley 1997 do: no share of draws is zero.
    """
    finite = differences[np.isfinite(differences)]
    if not len(finite):
        return float("nan")
    smaller = min(int((finite <= 0).sum()), int((finite >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(finite) + 1))


def _binomial() -> Callable[..., Any]:
    from scipy.stats import binomtest

    test: Callable[..., Any] = binomtest
    return test
