"""Overlap of regions (Jaccard 1901), over the pixels of all pictures together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeward.targets.evaluation.cases import REGIONS, Outcome

from .base import Metric, Rows, Scores


def iou(variant: str) -> Metric | None:
    """Return the mean over classes of what is in both regions over what is in either."""
    note = "mean over the classes that are wanted or found, pixels of all pictures together"
    return None if variant else Metric(_counted, _mean, parts=_each, note=note)


def pixel_accuracy(variant: str) -> Metric | None:
    """Return the share of pixels whose class is right."""
    return None if variant else Metric(_counted, _right)


def _counted(outcomes: Sequence[Outcome]) -> Scores:
    """Of each class: pixels right, found, wanted."""
    names = sorted({name for one in outcomes for name in one.found[REGIONS]})
    rows = np.zeros((len(outcomes), len(names), 3))
    for row, one in zip(rows, outcomes, strict=True):
        for name, counts in one.found[REGIONS].items():
            row[names.index(name)] = counts
    return Scores(rows.reshape(len(outcomes), -1), tuple(names))


def _shares(rows: Rows) -> Rows:
    """Each class's overlap, NaN where these pictures have none of it."""
    right, found, wanted = rows.reshape(len(rows), -1, 3).sum(axis=0).T
    either = found + wanted - right
    shares: Rows = np.divide(right, either, out=np.full(len(right), np.nan), where=either > 0)
    return shares


def _mean(rows: Rows) -> float:
    told = _shares(rows)
    told = told[np.isfinite(told)]
    return float(told.mean()) if len(told) else float("nan")


def _each(scores: Scores) -> Mapping[str, float]:
    return dict(zip(scores.names, _shares(scores.rows).tolist(), strict=True))


def _right(rows: Rows) -> float:
    right, _, wanted = rows.reshape(len(rows), -1, 3).sum(axis=(0, 1))
    return float(right / wanted) if wanted else float("nan")
