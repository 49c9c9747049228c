"""How far an artifact's vectors are from the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.bundle.manifest import Check

Floats = NDArray[np.float32]

WORST_COSINE = -1.0
_LARGEST = 1e30


def compare_vectors(reference: Floats, actual: Floats) -> dict[str, float]:
    """Compare (n, dimensions) float32 row by row: cosine mean and minimum, largest difference.

    The difference is given as it is and over the reference's standard deviation: a model that does
    not normalise its vectors may have them of any length. A row that is not finite, or a different
    shape, counts as the worst there is.
    """
    if reference.shape != actual.shape or not reference.size:
        return _metrics(np.full(max(len(reference), 1), WORST_COSINE), _LARGEST, _LARGEST)
    finite = np.asarray(np.isfinite(actual).all(axis=1))
    safe = np.where(finite[:, None], actual, 0).astype(np.float64)
    cosines = np.where(finite, _cosines(reference.astype(np.float64), safe), WORST_COSINE)
    difference = float(np.abs(reference - safe).max()) if finite.all() else _LARGEST
    return _metrics(cosines, difference, relative_difference(reference, actual))


def rank_agreement(reference: Floats, actual: Floats) -> float:
    """Return Spearman's correlation of all pairwise similarities, before and after.

    It tells what a search over these vectors would notice: 1 means the same order.
    """
    upper = np.triu_indices(len(reference), k=1)
    if len(upper[0]) < 2 or not np.isfinite(actual).all():
        return 0.0
    first = _ranks((reference @ reference.T)[upper])
    second = _ranks((actual @ actual.T)[upper])
    return float(np.corrcoef(first, second)[0, 1])


def relative_difference(reference: Floats, actual: Floats) -> float:
    """Return the largest absolute difference over the reference's standard deviation."""
    if reference.shape != actual.shape or not np.isfinite(actual).all():
        return _LARGEST
    spread = float(reference.std()) or 1.0
    return float(np.abs(reference - actual).max()) / spread


def judge(metrics: Mapping[str, float], bounds: Sequence[Check]) -> list[Check]:
    """Return each bound with the value measured now; a metric that is missing fails."""
    return [bound.model_copy(update={"value": _value(metrics, bound)}) for bound in bounds]


def _value(metrics: Mapping[str, float], bound: Check) -> float:
    worst = -_LARGEST if bound.direction == "at-least" else _LARGEST
    return metrics.get(bound.metric, worst)


def _cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    both_zero = (np.abs(first).max(axis=1) == 0) & (np.abs(second).max(axis=1) == 0)
    dots = np.einsum("ij,ij->i", first, second)
    return np.where(both_zero, 1.0, dots / np.maximum(lengths, 1e-30))


def _ranks(values: Floats) -> NDArray[np.float64]:
    """Ranks with ties sharing their mean, as Spearman's correlation wants them."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], np.float64)


def _metrics(cosines: NDArray[np.float64], difference: float, relative: float) -> dict[str, float]:
    return {
        "cosine_mean": float(cosines.mean()),
        "cosine_min": float(cosines.min()),
        "max_abs_difference": min(difference, _LARGEST),
        "relative_difference": min(relative, _LARGEST),
    }
