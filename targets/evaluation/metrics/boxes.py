"""Mean average precision of boxes as COCO defines it, by pycocotools.

Lin and others, Microsoft COCO, arXiv:1405.0312, and cocodataset.org/#detection-eval: a found box is
right where its overlap with one that is wanted reaches a threshold, and precision is averaged over
101 recalls, over classes, and over the thresholds from 0.50 to 0.95 (`map`) or one of them.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.targets.evaluation.cases import BOXES, Outcome

from .base import Metric, Rows, Scores

_THRESHOLDS = {"": slice(None), "50": slice(0, 1), "75": slice(5, 6)}
_RECALLS = np.linspace(0, 1, 101)
_MOST = 100


@dataclass(frozen=True, slots=True)
class _Matches:
    """One class in all pictures, found boxes in the order of their scores.

    `picture` is where each lies, `right` and `ignored` (thresholds, boxes) what came of it,
    `wanted` (pictures,) how many there are to be found.
    """

    picture: NDArray[np.int64]
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    wanted: NDArray[np.int64]


@dataclass(slots=True)
class _Kept:
    """Outcomes that were scored: a row of scores is a place among them."""

    outcomes: list[Outcome] = field(default_factory=list)
    matches: dict[int, list[_Matches]] = field(default_factory=dict)


def mean_average_precision(variant: str) -> Metric | None:
    """Return the metric; `50` and `75` are of that overlap alone."""
    from pycocotools.cocoeval import COCOeval  # noqa: F401  it is missed before anything runs

    if variant not in _THRESHOLDS:
        return None
    kept, chosen = _Kept(), _THRESHOLDS[variant]

    def scores(outcomes: Sequence[Outcome]) -> Scores:
        first = len(kept.outcomes)
        kept.outcomes += outcomes
        kept.matches[first] = _matched(outcomes)
        places = np.arange(first, len(kept.outcomes), dtype=np.float64)
        return Scores(places.reshape(-1, 1), _names(outcomes))

    def value(rows: Rows) -> float:
        return _mean(_precisions(_of(kept, rows))[chosen])

    def again(rows: Rows) -> float:
        return _drawn(kept, rows, chosen)

    note = "COCO's, up to 100 boxes a picture"
    return Metric(scores, value, parts=partial(_each, kept, chosen), note=note, again=again)


def _each(kept: _Kept, chosen: slice, scores: Scores) -> Mapping[str, float]:
    """Each class's own; NaN for one that is found and nowhere wanted."""
    precisions = _precisions(_of(kept, scores.rows))[chosen]
    return {name: _mean(precisions[:, :, n]) for n, name in enumerate(scores.names)}


def _of(kept: _Kept, rows: Rows) -> list[Outcome]:
    return [kept.outcomes[int(place)] for place in rows[:, 0]]


def _names(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    wanted = {box[0] for one in outcomes for box in one.case.wanted}
    return tuple(sorted(wanted | {box[0] for one in outcomes for box in one.found[BOXES]}))


def _precisions(outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
    """Return COCO's precisions (thresholds, recalls, classes), -1 where nothing is wanted."""
    evaluation = _evaluated(outcomes)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    found: NDArray[np.float64] = evaluation.eval["precision"][:, :, :, 0, 0]
    return found


def _mean(precisions: NDArray[np.float64]) -> float:
    told = precisions[precisions > -1]
    return float(told.mean()) if told.size else float("nan")


def _evaluated(outcomes: Sequence[Outcome]) -> Any:
    """Match found with wanted; it speaks of its progress, which nobody asked for."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    numbers = {name: number for number, name in enumerate(_names(outcomes), 1)}
    wanted, found = COCO(), COCO()
    images = [{"id": number} for number in range(len(outcomes))]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    told: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for image, one in enumerate(outcomes):
        for label, *box, crowd in one.case.wanted:
            told[0].append(_annotation(image, numbers[label], box) | {"iscrowd": int(crowd)})
        for label, *box, score in one.found[BOXES]:
            told[1].append(_annotation(image, numbers[label], box) | {"score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        for side, annotations in zip((wanted, found), told, strict=True):
            listed = [{"id": number, **each} for number, each in enumerate(annotations, 1)]
            side.dataset = {"images": images, "categories": categories, "annotations": listed}
            side.createIndex()
        evaluation = COCOeval(wanted, found, "bbox")
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.params.maxDets = [_MOST]
        evaluation.evaluate()
    return evaluation


def _annotation(image: int, category: int, box: Sequence[float]) -> dict[str, Any]:
    place = {"image_id": image, "category_id": category, "bbox": list(box)}
    return {**place, "area": box[2] * box[3], "iscrowd": 0}


def _matched(outcomes: Sequence[Outcome]) -> list[_Matches]:
    """Every class's matches, made once for all draws."""
    evaluation = _evaluated(outcomes)
    pictures, thresholds = len(outcomes), len(evaluation.params.iouThrs)
    classes = []
    for number in range(len(evaluation.params.catIds)):
        each = evaluation.evalImgs[number * pictures : (number + 1) * pictures]
        seen = [(n, one) for n, one in enumerate(each) if one is not None]
        wanted = np.zeros(pictures, np.int64)
        for n, one in seen:
            wanted[n] = np.count_nonzero(one["gtIgnore"] == 0)
        score = np.concatenate([one["dtScores"] for _, one in seen] or [[]])
        order = np.argsort(-score, kind="mergesort")
        place = np.repeat([n for n, _ in seen], [len(one["dtScores"]) for _, one in seen])
        right = _beside([one["dtMatches"] for _, one in seen], thresholds) > 0
        ignored = _beside([one["dtIgnore"] for _, one in seen], thresholds) > 0
        picture = place.astype(np.int64)[order]
        classes.append(_Matches(picture, right[:, order], ignored[:, order], wanted))
    return classes


def _beside(parts: Sequence[NDArray[Any]], rows: int) -> NDArray[Any]:
    return np.concatenate([np.zeros((rows, 0)), *parts], axis=1)


def _drawn(kept: _Kept, rows: Rows, chosen: slice) -> float:
    """COCO's mean of drawn pictures from the matches, each as often as it was drawn."""
    places = rows[:, 0].astype(np.int64)
    first = max(start for start in kept.matches if start <= places.min())
    classes = kept.matches[first]
    size = len(classes[0].wanted) if classes else 0
    times = np.bincount(places - first, minlength=size)
    told = [_average(each, times, chosen) for each in classes]
    found = [each for each in told if each is not None]
    return float(np.mean(found)) if found else float("nan")


def _average(matches: _Matches, times: NDArray[np.int64], chosen: slice) -> float | None:
    """One class's precision over thresholds and recalls; None where nothing of it is wanted."""
    wanted = int(matches.wanted @ times)
    if not wanted:
        return None
    weights = times[matches.picture] * ~matches.ignored[chosen]
    right = np.cumsum(weights * matches.right[chosen], axis=1)
    wrong = np.cumsum(weights * ~matches.right[chosen], axis=1)
    precision = right / np.maximum(right + wrong, np.spacing(1))
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = [np.searchsorted(row, _RECALLS, side="left") for row in right / wanted]
    padded = np.concatenate([highest, np.zeros((len(highest), 1))], axis=1)
    return float(np.mean([row[at] for row, at in zip(padded, reached, strict=True)]))
