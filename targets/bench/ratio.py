"""How much slower: the ratio of paired rounds, with a confidence interval by the bootstrap.

The ratio is the geometric mean of the rounds' own ratios (Fleming and Wallace 1986, "How not to
lie with statistics"), so that drift meets both sides of a pair alike, and B over A is the inverse
of A over B. Its interval is the bootstrap's percentiles of the mean of their logarithms (Efron
1979), expanded as Hesterberg 2015 (arXiv:1411.5279) does for few rounds, where the
plain ones are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError

CONFIDENCE = 0.95
RESAMPLES = 10_000
LEAST_ROUNDS = 5
_NORMAL = NormalDist()

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
    drawn = np.random.default_rng(seed).integers(0, len(logs), (resamples, len(logs)))
    edge = expanded(confidence, len(logs))
    low, high = np.quantile(logs[drawn].mean(axis=1), [edge, 1 - edge])
    value, low, high = (float(np.exp(each)) for each in (logs.mean(), low, high))
    return Ratio(value, min(low, value), max(high, value), len(logs), confidence)


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


def expanded(confidence: float, rounds: int) -> float:
    """Return the share below the interval: (1 - confidence) / 2, less for few rounds.

    It is where the normal distribution has what Student's has there, for a deviation that divides
    by n - 1; the quantile by the expansion of Abramowitz and Stegun 26.7.5.
    """
    z, free = _NORMAL.inv_cdf((1 + confidence) / 2), rounds - 1
    student = (
        z
        + (z**3 + z) / (4 * free)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    )
    return _NORMAL.cdf(-student * math.sqrt(rounds / free))


def _checked(durations: Sequence[float], partner: Sequence[float] | None) -> Doubles:
    values = np.asarray(durations, np.float64)
    if len(values) < LEAST_ROUNDS or (partner is not None and len(partner) != len(values)):
        raise UsageError(f"A ratio needs at least {LEAST_ROUNDS} durations of each side")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise UsageError("A ratio is of durations above zero")
    return values
