"""Entities whose borders and class are right (Tjong Kim Sang and De Meulder 2003)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from edgeward.targets.evaluation.cases import SPANS, Outcome

from .base import Metric, Rows, Scores

Share = Callable[[float, float, float], float]


def precision(variant: str) -> Metric | None:
    """Return what share of the entities found are right."""
    return _metric(variant, lambda right, found, _: _over(right, found))


def recall(variant: str) -> Metric | None:
    """Return what share of the entities is found."""
    return _metric(variant, lambda right, _, wanted: _over(right, wanted))


def f1(variant: str) -> Metric | None:
    """Return the harmonic mean of both."""
    return _metric(variant, lambda right, found, wanted: _over(2 * right, found + wanted))


def _metric(variant: str, share: Share) -> Metric | None:
    if variant not in ("", "micro", "macro"):
        return None
    value = partial(_macro if variant == "macro" else _micro, share)
    note = f"whole entities, {variant or 'micro'} average"
    return Metric(_counted, value, parts=partial(_each, share), note=note)


def _counted(outcomes: Sequence[Outcome]) -> Scores:
    """Of each class: entities right, found, wanted."""
    pairs = [
        (set(one.case.wanted), {(start, end, label) for start, end, label in one.found[SPANS]})
        for one in outcomes
    ]
    names = sorted({span[2] for pair in pairs for spans in pair for span in spans})
    rows = np.zeros((len(pairs), 3 * len(names)))
    for row, (wanted, found) in zip(rows, pairs, strict=True):
        for column, spans in enumerate((wanted & found, found, wanted)):
            for span in spans:
                row[3 * names.index(span[2]) + column] += 1
    return Scores(rows, tuple(names))


def _micro(share: Share, rows: Rows) -> float:
    right, found, wanted = rows.reshape(len(rows), -1, 3).sum(axis=(0, 1))
    return share(right, found, wanted)


def _macro(share: Share, rows: Rows) -> float:
    sums = rows.reshape(len(rows), -1, 3).sum(axis=0)
    told = [share(*counts) for counts in sums if counts.any()]
    return float(np.mean(told)) if told else 0.0


def _each(share: Share, scores: Scores) -> Mapping[str, float]:
    sums = scores.rows.reshape(len(scores.rows), -1, 3).sum(axis=0)
    return {name: share(*counts) for name, counts in zip(scores.names, sums, strict=True)}


def _over(above: float, below: float) -> float:
    return float(above / below) if below else 0.0
