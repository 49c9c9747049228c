"""What is kept of an output: all of a small one, evenly chosen rows and columns of a large one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.engines.base import Tensor

from .compare import WORST_COSINE

MOST_VALUES = 16_384
MOST_PICKS = 4_096
_MOST_COLUMNS = 1_024
_LARGEST = 1e30


class Sketch(NamedTuple):
    """Chosen values float32 (rows, columns), and the picked class of rows, int32."""

    values: NDArray[np.float32]
    picked: NDArray[np.int32]


def sketch(output: Tensor, class_axis: int | None = None) -> Sketch:
    """Return the sketch of an output; which rows and columns depends on its shape alone.

    `class_axis` is the axis along which one value is picked; None where there is none.
    """
    array = np.atleast_2d(np.asarray(output, np.float32))
    if class_axis is not None and class_axis not in (-1, array.ndim - 1):
        array = np.moveaxis(array, class_axis, -1)
    rows = array.reshape(-1, array.shape[-1])
    picked = np.zeros(0, np.int32)
    if class_axis is not None:
        picked = rows[_chosen(len(rows), MOST_PICKS)].argmax(axis=1).astype(np.int32)
    columns = _chosen(rows.shape[1], _MOST_COLUMNS)
    kept = _chosen(len(rows), max(MOST_VALUES // max(len(columns), 1), 1))
    return Sketch(rows[kept][:, columns], picked)


def compare_sketches(pairs: Iterable[tuple[Sketch, Sketch]]) -> dict[str, float]:
    """Compare (reference, actual) pairs: cosine, largest relative difference, share picked alike.

    The difference is over the reference's standard deviation. A sketch that is not finite, or of
    another shape, counts as the worst there is.
    """
    cosines: list[float] = []
    worst, alike, picks = 0.0, 0, 0
    for reference, actual in pairs:
        picks += reference.picked.size
        fits = reference.values.shape == actual.values.shape
        if not fits or not np.isfinite(actual.values).all():
            cosines.append(WORST_COSINE)
            worst = _LARGEST
            continue
        cosines.append(_cosine(reference.values, actual.values))
        worst = max(worst, _relative(reference.values, actual.values))
        if reference.picked.shape == actual.picked.shape:
            alike += int(np.count_nonzero(reference.picked == actual.picked))
    found = {
        "cosine_mean": float(np.mean(cosines)),
        "cosine_min": min(cosines),
        "relative_difference": min(worst, _LARGEST),
    }
    return {**found, "top1_agreement": alike / picks} if picks else found


def _chosen(length: int, most: int) -> NDArray[np.int64]:
    """At most `most` of `length` positions, evenly spread, both ends among them."""
    if length <= most:
        return np.arange(length)
    return np.linspace(0, length - 1, most).astype(np.int64)


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else float(not a.any() and not b.any())


def _relative(reference: NDArray[np.float32], actual: NDArray[np.float32]) -> float:
    spread = float(reference.std()) or float(np.abs(reference).max()) or 1.0
    return float(np.abs(reference - actual).max()) / spread
