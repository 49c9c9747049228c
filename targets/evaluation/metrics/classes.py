"""Accuracy, precision, recall and F1 of classes, by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from edgeward.targets.evaluation.cases import LABEL, Outcome

from .base import Metric, Rows, Scores, mean

Share = Callable[[Rows, Rows, Rows], Rows]
AVERAGES = ("macro", "micro", "weighted")


def accuracy(variant: str) -> Metric | None:
    """Return the share of cases whose class is right."""
    return None if variant else Metric(_right, mean, counts=True)


def precision(variant: str) -> Metric | None:
    """Return what share of a class's findings are right; 0 for a class that is never found."""
    from sklearn.metrics import precision_score

    return _averaged(precision_score, variant, lambda right, found, _: over(right, found))


def recall(variant: str) -> Metric | None:
    """Return what share of a class is found."""
    from sklearn.metrics import recall_score

    return _averaged(recall_score, variant, lambda right, _, wanted: over(right, wanted))


def f1(variant: str) -> Metric | None:
    """Return the harmonic mean of precision and recall."""
    from sklearn.metrics import f1_score

    return _averaged(
        f1_score, variant, lambda right, found, wanted: over(2 * right, found + wanted)
    )


def confusion(variant: str) -> Metric | None:
    """Return the share that is right, and beside it how often each class was taken for each."""
    from sklearn.metrics import confusion_matrix

    def parts(scores: Scores) -> Mapping[str, float]:
        found = confusion_matrix(*scores.rows.T, labels=range(len(scores.names)))
        pairs = np.argwhere(found)
        return {
            f"{scores.names[wanted]} -> {scores.names[given]}": float(found[wanted, given])
            for wanted, given in pairs
        }

    return None if variant else Metric(_numbered, _agreement, parts=parts)


def matrix(scores: Scores) -> list[list[int]]:
    """Return how often each class (row) was taken for each (column), by names of the scores."""
    found = np.zeros((len(scores.names),) * 2, np.int64)
    for wanted, given in scores.rows.astype(np.int64):
        found[wanted, given] += 1
    return [[int(count) for count in row] for row in found]


def over(above: Rows, below: Rows) -> Rows:
    """Return quotients, 0 where there is nothing below."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _averaged(score: Callable[..., Any], variant: str, share: Share) -> Metric | None:
    average = variant or "macro"
    if average not in AVERAGES:
        return None
    return Metric(
        _numbered,
        partial(_value, score, average),
        parts=partial(_each, score),
        note=f"{average} average over classes",
        again=partial(_again, share, average),
    )


def _again(share: Share, average: str, rows: Rows) -> float:
    """The same average from counts: right, found and wanted of each class that is in the rows."""
    wanted, found = rows.astype(np.int64).T
    classes = int(rows.max(initial=0)) + 1
    right = np.bincount(wanted[wanted == found], minlength=classes).astype(np.float64)
    given = np.bincount(found, minlength=classes).astype(np.float64)
    asked = np.bincount(wanted, minlength=classes).astype(np.float64)
    if average == "micro":
        return float(
            share(right.sum(keepdims=True), given.sum(keepdims=True), asked.sum(keepdims=True))[0]
        )
    each = share(right, given, asked)
    weights = asked if average == "weighted" else ((given + asked) > 0).astype(np.float64)
    return float(each @ weights / weights.sum())


def _value(score: Callable[..., Any], average: str, rows: Rows) -> float:
    return float(score(rows[:, 0], rows[:, 1], average=average, zero_division=0.0))


def _each(score: Callable[..., Any], scores: Scores) -> Mapping[str, float]:
    labels = range(len(scores.names))
    each = score(*scores.rows.T, labels=labels, average=None, zero_division=0.0)
    return {name: float(value) for name, value in zip(scores.names, each, strict=True)}


def _agreement(rows: Rows) -> float:
    return float((rows[:, 0] == rows[:, 1]).mean())


def _right(outcomes: Sequence[Outcome]) -> Scores:
    return Scores(np.array([[one.case.wanted == one.found[LABEL]] for one in outcomes], np.float64))


def _numbered(outcomes: Sequence[Outcome]) -> Scores:
    pairs = [(str(one.case.wanted), str(one.found[LABEL])) for one in outcomes]
    names = tuple(sorted({label for pair in pairs for label in pair}))
    numbers = {name: number for number, name in enumerate(names)}
    rows = [[numbers[wanted], numbers[given]] for wanted, given in pairs]
    return Scores(np.array(rows, np.float64).reshape(-1, 2), names)
