"""What texts cost a language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeward.targets.evaluation.cases import NATS, Outcome

from .base import Metric, Rows, Scores, ratio, stacked


def perplexity(variant: str) -> Metric | None:
    """Return exp of the mean negative log-likelihood of a token (Jelinek et al. 1977)."""
    note = "each token told once, by windows that overlap by half"
    return None if variant else Metric(_scores, _value, better="lower", note=note)


def _value(rows: Rows) -> float:
    return float(np.exp(ratio(rows)))


def _scores(outcomes: Sequence[Outcome]) -> Scores:
    return stacked([[one.found[NATS], one.found["tokens"]] for one in outcomes], 2)
