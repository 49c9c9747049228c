"""Errors and ranks of numbers, by scikit-learn and SciPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeward.targets.evaluation.cases import NUMBER, Outcome

from .base import Metric, Rows, Scores, stacked

# Below the smallest normal number a variance has too few digits left to divide by.
_TINY = np.finfo(np.float64).tiny


def mae(variant: str) -> Metric | None:
    """Return the mean absolute error."""
    from sklearn.metrics import mean_absolute_error

    def value(rows: Rows) -> float:
        return float(mean_absolute_error(rows[:, 0], rows[:, 1]))

    def again(rows: Rows) -> float:
        return float(np.abs(rows[:, 0] - rows[:, 1]).mean())

    return None if variant else Metric(_pairs, value, better="lower", again=again)


def r2(variant: str) -> Metric | None:
    """Return the share of the variance that is told; NaN where nothing varies."""
    from sklearn.metrics import r2_score

    def value(rows: Rows) -> float:
        if len(rows) < 2 or rows[:, 0].var() < _TINY:
            return float("nan")
        return float(r2_score(rows[:, 0], rows[:, 1]))

    def again(rows: Rows) -> float:
        spread = rows[:, 0].var()
        if spread < _TINY:
            return float("nan")
        return float(1 - np.square(rows[:, 0] - rows[:, 1]).mean() / spread)

    return None if variant else Metric(_pairs, value, again=again)


def spearman(variant: str) -> Metric | None:
    """Return the correlation of ranks (Spearman 1904), ties by their mean; NaN for constants."""
    from scipy.stats import rankdata, spearmanr

    def value(rows: Rows) -> float:
        constant = len(rows) < 2 or not np.ptp(rows, axis=0).all()
        return float("nan") if constant else float(spearmanr(rows[:, 0], rows[:, 1]).statistic)

    def again(rows: Rows) -> float:
        wanted, found = rankdata(rows, axis=0).T
        apart = (wanted - wanted.mean(), found - found.mean())
        below = float(np.sqrt((apart[0] @ apart[0]) * (apart[1] @ apart[1])))
        return float(apart[0] @ apart[1]) / below if below else np.nan

    return None if variant else Metric(_pairs, value, again=again)


def _pairs(outcomes: Sequence[Outcome]) -> Scores:
    return stacked([[one.case.wanted, one.found[NUMBER]] for one in outcomes], 2)
