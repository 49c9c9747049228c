"""How much slower: the ratio of paired rounds, with a confidence interval by the bootstrap.

The ratio is the geometric mean of the rounds' own ratios (Fleming and Wallace 1986, "How not to
lie with statistics"), so that drift meets both sides of a pair alike, and B over A is the inverse
of A over B. Its interval is the bootstrap-t of the mean of their logarithms (Efron and Tibshirani
1993, "An Introduction to the Bootstrap", section 12.5): with a dozen rounds the plain percentile
interval is too narrow (Hesterberg 2015, arXiv:1411.5279, section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError

CONFIDENCE = 0.95
RESAMPLES = 4000
LEAST_ROUNDS = 5
# Logarithm of a ratio that is still a number: a few wild rounds may reach for more.
_MOST = 700.0

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ratio:
    """`value` and its interval from `low` to `high`; above 1 the second side took longer."""

    value: float
    low: float
    high: float
    rounds: int
    confidence: float = CONFIDENCE

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 1."""
        return not self.low <= 1.0 <= self.high

    def to_dict(self) -> dict[str, object]:
        """Return the figures as plain JSON-ready data."""
        return {**asdict(self), "differs": self.differs}


def paired_ratio(
    first: Sequence[float],
    second: Sequence[float],
    *,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Ratio:
    """Return second over first of durations measured in turn, one pair a round.

    Raises UsageError for fewer than `LEAST_ROUNDS` pairs or a duration that is not positive.
    """
    logs = np.log(_checked(second, first)) - np.log(_checked(first, second))
    middle, error = float(logs.mean()), _error(logs)
    low, high = middle, middle
    if error > 0:
        drawn = np.random.default_rng(seed).integers(0, len(logs), (resamples, len(logs)))
        low, high = _interval(logs[drawn], middle, error, confidence)
    value, low, high = (float(np.exp(np.clip(each, -_MOST, _MOST))) for each in (middle, low, high))
    return Ratio(value, low, high, len(logs), confidence)


def apart_ratio(
    first: Sequence[float],
    second: Sequence[float],
    *,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Ratio:
    """Return the ratio of the medians of durations that were not measured in turn.

    Each side is resampled by itself (percentile bootstrap, Efron 1979); what drifted between the
    two runs is in the ratio and not in its interval. Raises UsageError as `paired_ratio` does.
    """
    a, b = _checked(first, None), _checked(second, None)
    drawn = np.random.default_rng(seed)
    middles = [
        np.median(side[drawn.integers(0, len(side), (resamples, len(side)))], axis=1)
        for side in (a, b)
    ]
    edge = (1 - confidence) / 2
    low, high = np.quantile(middles[1] / middles[0], [edge, 1 - edge])
    value = float(np.median(b) / np.median(a))
    return Ratio(value, float(low), float(high), min(len(a), len(b)), confidence)


def _interval(
    drawn: Doubles, middle: float, error: float, confidence: float
) -> tuple[float, float]:
    errors = drawn.std(axis=1, ddof=1) / np.sqrt(drawn.shape[1])
    # A resample of one value again and again has no error of its own to be told in.
    usable = errors > 0
    scaled = (drawn.mean(axis=1)[usable] - middle) / errors[usable]
    edge = (1 - confidence) / 2
    below, above = np.quantile(scaled, [edge, 1 - edge])
    return middle - float(above) * error, middle - float(below) * error


def _error(logs: Doubles) -> float:
    spread = float(logs.std(ddof=1))
    # Rounding of logarithms alone is no spread.
    return spread / float(np.sqrt(len(logs))) if spread > 1e-12 else 0.0


def _checked(durations: Sequence[float], partner: Sequence[float] | None) -> Doubles:
    values = np.asarray(durations, np.float64)
    if len(values) < LEAST_ROUNDS or (partner is not None and len(partner) != len(values)):
        raise UsageError(f"A ratio needs at least {LEAST_ROUNDS} durations of each side")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise UsageError("A ratio is of durations above zero")
    return values
