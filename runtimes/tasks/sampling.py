"""Picking the next token from its logits: numpy alone, repeatable from a seed.

The filters and their order are those of transformers' `generate`: repetition penalty, temperature,
top-k, top-p (Holtzman et al. 2020, arXiv:1904.09751), min-p (Nguyen et al. 2024, arXiv:2407.01082).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UsageError

Floats = NDArray[np.float64]
_LARGEST = 1e6
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to pick: temperature 0 takes the likeliest token; top_k 0, top_p 1, min_p 0 filter none.

    Raises UsageError where a value is outside of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require("temperature", self.temperature, 0 <= self.temperature <= _LARGEST, "0 or more")
        _require("top_k", self.top_k, _whole(self.top_k), "a whole number, 0 or more")
        _require("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _require("min_p", self.min_p, 0 <= self.min_p <= 1, "from 0 to 1")
        penalty = self.repetition_penalty
        _require("repetition_penalty", penalty, 0 < penalty <= _LARGEST, "above 0")
        known = self.seed is None or _whole(self.seed)
        _require("seed", self.seed, known, "a whole number, 0 or more")


class Sampler:
    """Picks token after token; the same seed and the same logits give the same tokens."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = np.random.default_rng(sampling.seed)

    def __call__(self, logits: NDArray[np.floating], seen: Collection[int] = ()) -> int:
        """Pick from logits (vocabulary,); `seen` are the tokens that repeat.

        Raises EngineError where no logit is finite or one is NaN or +infinity.
        """
        scores = penalised(_checked(logits), seen, self._sampling.repetition_penalty)
        if self._sampling.temperature == 0:
            return int(scores.argmax())
        shares = probabilities(scores, self._sampling)
        kept = np.flatnonzero(shares)
        edges = shares[kept].cumsum()
        drawn = self._generator.random() * edges[-1]
        return int(kept[min(int(np.searchsorted(edges, drawn, side="right")), len(kept) - 1)])


def penalised(scores: Floats, seen: Collection[int], penalty: float) -> Floats:
    """Make seen tokens less likely: positive scores divided, negative ones multiplied.

    Keskar et al. 2019, arXiv:1909.05858.
    """
    if penalty == 1 or not seen:
        return scores
    known = np.fromiter((t for t in set(seen) if 0 <= t < len(scores)), np.int64)
    changed: Floats = scores.copy()
    at = changed[known]
    changed[known] = np.where(at > 0, at / penalty, at * penalty)
    return changed


def probabilities(scores: Floats, sampling: Sampling) -> Floats:
    """Return each token's share (vocabulary,) at a temperature above 0, filtered ones 0."""
    with np.errstate(over="ignore"):
        scaled: Floats = (scores - scores.max()) / sampling.temperature
    if 0 < sampling.top_k < len(scaled):
        least = np.partition(scaled, -sampling.top_k)[-sampling.top_k]
        scaled = np.where(scaled < least, -np.inf, scaled)
    shares = _normalised(np.exp(scaled))
    if sampling.top_p < 1:
        shares = _normalised(np.where(_nucleus(shares, sampling.top_p), shares, 0))
    if sampling.min_p > 0:
        shares = _normalised(np.where(shares < sampling.min_p * shares.max(), 0, shares))
    return shares


def _nucleus(shares: Floats, top_p: float) -> NDArray[np.bool_]:
    """The fewest tokens whose shares reach top_p.

    Tokens below (1 - top_p) / vocabulary never reach 1 - top_p together: they need no sorting.
    """
    kept = np.zeros(len(shares), bool)
    likely = np.flatnonzero(shares > (1 - top_p) / len(shares))
    order = likely[np.argsort(-shares[likely], kind="stable")]
    reached = shares[order].cumsum() < top_p
    kept[order[: int(reached.sum()) + 1]] = True
    return kept


def _normalised(shares: Floats) -> Floats:
    scaled: Floats = shares / shares.sum()
    return scaled


def _checked(logits: NDArray[np.floating]) -> Floats:
    scores = np.asarray(logits, np.float64)
    if not scores.size or not math.isfinite(scores.max()):
        raise EngineError("The model gave logits that are not finite")
    return scores


def _whole(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST_SEED


def _require(name: str, value: object, holds: bool, range_words: str) -> None:
    if not holds:
        raise UsageError(f"{name} is {range_words}, not {value!r}")
