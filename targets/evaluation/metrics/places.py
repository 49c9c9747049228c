"""Where in a ranking the wanted documents stand."""

from __future__ import annotations

from collections.abc import Sequence

from edgeward.targets.evaluation.cases import PLACES, Outcome

from .base import Metric, Scores, mean, stacked


def recall(variant: str) -> Metric | None:
    """Return the mean share of the wanted documents among the first k: `recall@k`."""
    if not variant.isascii() or not variant.isdecimal() or not 0 < int(variant[:6]) <= 1000:
        return None
    first = int(variant[:6])

    def scores(outcomes: Sequence[Outcome]) -> Scores:
        rows = [[_share(one.case.wanted, one.found[PLACES][:first])] for one in outcomes]
        return stacked(rows, 1)

    return Metric(scores, mean)


def mrr(variant: str) -> Metric | None:
    """Return the mean of one over the place of the first wanted document (Voorhees 1999)."""

    def scores(outcomes: Sequence[Outcome]) -> Scores:
        return stacked([[_first(one.case.wanted, one.found[PLACES])] for one in outcomes], 1)

    return None if variant else Metric(scores, mean)


def _share(wanted: Sequence[int], ranked: Sequence[int]) -> float:
    return len(set(wanted) & set(ranked)) / len(wanted)


def _first(wanted: Sequence[int], ranked: Sequence[int]) -> float:
    return next((1 / (at + 1) for at, place in enumerate(ranked) if place in wanted), 0.0)
