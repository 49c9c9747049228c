"""What a metric is: figures of each case, and one value of any set of cases' figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeward.targets.evaluation.cases import Outcome

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures (cases, n) of each case; `names` are the classes that whole numbers stand for."""

    rows: Rows
    names: tuple[str, ...] = ()


def no_parts(_scores: Scores) -> Mapping[str, float]:
    """Return no parts."""
    return {}


@dataclass(frozen=True, slots=True)
class Metric:
    """`value` of any rows of the scores, so that sets of cases can be drawn again and again.

    `counts` says that a row is one case, 1 right or 0 wrong. `parts` are values beside the metric's
    own, of a class for example. A value that cannot be told is NaN. `again` tells the same value
    where the library's call takes too long for thousands of draws.
    """

    scores: Callable[[Sequence[Outcome]], Scores]
    value: Callable[[Rows], float]
    better: Literal["higher", "lower"] = "higher"
    counts: bool = False
    parts: Callable[[Scores], Mapping[str, float]] = no_parts
    note: str = ""
    again: Callable[[Rows], float] | None = None


def mean(rows: Rows) -> float:
    """Return the mean of the first column."""
    return float(rows[:, 0].mean()) if len(rows) else float("nan")


def ratio(rows: Rows) -> float:
    """Return the sum of the first column over that of the second."""
    above, below = rows[:, 0].sum(), rows[:, 1].sum()
    return float(above / below) if below else float("nan")


def stacked(rows: Sequence[Sequence[float]], width: int) -> Scores:
    """Return scores of rows of equal width."""
    return Scores(np.array(rows, np.float64).reshape(len(rows), width))
