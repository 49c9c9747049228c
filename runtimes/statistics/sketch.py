"""A mergeable quantile sketch: DDSketch (Masson, Rim and Lee, VLDB 2019)."""

from __future__ import annotations

import math
from typing import Any

RELATIVE_ACCURACY = 0.01
MAX_BINS = 2048
_GAMMA = (1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
_MAX_INDEX = math.ceil(math.log(1e18) / _LOG_GAMMA)
_SMALLEST = 1e-9
_MAX_COUNT = 2**53


class Sketch:
    """Counts non-negative values in logarithmic bins: quantiles within 1 % of the true value."""

    def __init__(self) -> None:
        self.bins: dict[int, int] = {}
        self.zeros = 0
        self.sum = 0.0
        self.minimum = math.inf
        self.maximum = 0.0

    @property
    def count(self) -> int:
        """How many values were added."""
        return self.zeros + sum(self.bins.values())

    @property
    def mean(self) -> float | None:
        """The exact mean, None where nothing was added."""
        count = self.count
        return self.sum / count if count else None

    def add(self, value: float) -> None:
        """Count one value; ValueError where it is negative, too large or not a number."""
        if not 0 <= value <= 1e18:
            raise ValueError(f"a sketch takes values from 0 to 1e18, not {value}")
        if value < _SMALLEST:
            self.zeros += 1
        else:
            index = math.ceil(math.log(value) / _LOG_GAMMA)
            self.bins[index] = self.bins.get(index, 0) + 1
            self._collapse()
        self.sum += value
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)

    def merge(self, other: Sketch) -> None:
        """Count everything that `other` counted."""
        for index, count in other.bins.items():
            self.bins[index] = self.bins.get(index, 0) + count
        self.zeros += other.zeros
        self.sum += other.sum
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self._collapse()

    def quantile(self, q: float) -> float | None:
        """Return the value at quantile `q` (0 to 1), None where nothing was added."""
        count = self.count
        if not count:
            return None
        rank = q * (count - 1)
        if rank < self.zeros:
            return 0.0
        seen = self.zeros
        for index in sorted(self.bins):
            seen += self.bins[index]
            if seen > rank:
                middle = 2 * _GAMMA**index / (_GAMMA + 1)
                return min(max(middle, self.minimum), self.maximum)
        return self.maximum

    def to_json(self) -> dict[str, Any]:
        """Return the sketch as a small JSON object."""
        return {
            "accuracy": RELATIVE_ACCURACY,
            "bins": [[index, self.bins[index]] for index in sorted(self.bins)],
            "zeros": self.zeros,
            "sum": self.sum,
            "min": self.minimum if self.count else 0.0,
            "max": self.maximum,
        }

    @classmethod
    def from_json(cls, document: Any) -> Sketch:
        """Read a sketch from outside; ValueError says what is wrong with it."""
        if not isinstance(document, dict) or document.get("accuracy") != RELATIVE_ACCURACY:
            raise ValueError("not a sketch of this accuracy")
        bins = document.get("bins")
        if not isinstance(bins, list) or len(bins) > MAX_BINS:
            raise ValueError(f"a sketch has at most {MAX_BINS} bins")
        sketch = cls()
        for item in bins:
            if not isinstance(item, list) or len(item) != 2:
                raise ValueError("a bin is an index and a count")
            index = _integer(item[0], -_MAX_INDEX, _MAX_INDEX)
            if index in sketch.bins:
                raise ValueError("a bin stands twice")
            sketch.bins[index] = _integer(item[1], 1, _MAX_COUNT)
        sketch.zeros = _integer(document.get("zeros"), 0, _MAX_COUNT)
        if sketch.count > _MAX_COUNT:
            raise ValueError("the counts add up to too much")
        if sketch.count:
            sketch.sum = _number(document.get("sum"), 1e36)
            sketch.minimum = _number(document.get("min"), 1e18)
            sketch.maximum = _number(document.get("max"), 1e18)
        return sketch

    def _collapse(self) -> None:
        while len(self.bins) > MAX_BINS:
            lowest, second = sorted(self.bins)[:2]
            self.bins[second] += self.bins.pop(lowest)


def _integer(value: Any, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"expected a whole number from {low} to {high}")
    return value


def _number(value: Any, high: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= high:
        raise ValueError(f"expected a number from 0 to {high}")
    return float(value)
