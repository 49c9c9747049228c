"""Errors and ranks of numbers, by scikit-learn and SciPy."""

from __future__ import annotations

from collections.abc import Sequence

from edgeward.targets.evaluation.cases import NUMBER, Outcome

from .base import Metric, Rows, Scores, stacked


def mae(variant: str) -> Metric | None:
    """Return the mean absolute error."""
    from sklearn.metrics import mean_absolute_error

    def value(rows: Rows) -> float:
        return float(mean_absolute_error(rows[:, 0], rows[:, 1]))

    return None if variant else Metric(_pairs, value, better="lower")


def r2(variant: str) -> Metric | None:
    """Return the share of the variance that is told; NaN where nothing varies."""
    from sklearn.metrics import r2_score

    def value(rows: Rows) -> float:
        constant = len(rows) < 2 or not rows[:, 0].std()
        return float("nan") if constant else float(r2_score(rows[:, 0], rows[:, 1]))

    return None if variant else Metric(_pairs, value)


def spearman(variant: str) -> Metric | None:
    """Return the correlation of ranks (Spearman 1904), ties by their mean; NaN for constants."""
    from scipy.stats import spearmanr

    def value(rows: Rows) -> float:
        constant = len(rows) < 2 or not (rows[:, 0].std() and rows[:, 1].std())
        return float("nan") if constant else float(spearmanr(rows[:, 0], rows[:, 1]).statistic)

    return None if variant else Metric(_pairs, value)


def _pairs(outcomes: Sequence[Outcome]) -> Scores:
    return stacked([[one.case.wanted, one.found[NUMBER]] for one in outcomes], 2)
