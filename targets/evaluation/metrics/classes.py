"""Accuracy, precision, recall and F1 of classes, by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from edgeward.targets.evaluation.cases import LABEL, Outcome

from .base import Metric, Rows, Scores, mean

AVERAGES = ("macro", "micro", "weighted")


def accuracy(variant: str) -> Metric | None:
    """Return the share of cases whose class is right."""
    return None if variant else Metric(_right, mean, counts=True)


def precision(variant: str) -> Metric | None:
    """Return what share of a class's findings are right; 0 for a class that is never found."""
    from sklearn.metrics import precision_score

    return _averaged(precision_score, variant)


def recall(variant: str) -> Metric | None:
    """Return what share of a class is found."""
    from sklearn.metrics import recall_score

    return _averaged(recall_score, variant)


def f1(variant: str) -> Metric | None:
    """Return the harmonic mean of precision and recall."""
    from sklearn.metrics import f1_score

    return _averaged(f1_score, variant)


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


def _averaged(score: Callable[..., Any], variant: str) -> Metric | None:
    average = variant or "macro"
    if average not in AVERAGES:
        return None
    value = partial(_value, score, average)
    return Metric(
        _numbered, value, parts=partial(_each, score), note=f"{average} average over classes"
    )


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
