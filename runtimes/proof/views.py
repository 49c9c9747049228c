"""What a user sees of a model's outputs, and how much of it an artifact keeps.

A view keeps the original's answer as one small array, and counts over all cases how far an
artifact's outputs are from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.engines.base import Tensor
from edgeward.runtimes.tasks.ctc import joined
from edgeward.runtimes.tasks.labels import softmax

from .words import changes

Kept = NDArray[Any]
_MOST_BOXES, _MOST_SIDE = 32, 128
_MATCHED_FROM = 0.5
_BOX_COLUMNS = 6
_LARGEST = 1e30


class View(Protocol):
    """One task's answer."""

    def keep(self, outputs: Mapping[str, Tensor]) -> Kept:
        """Return what is kept of one case's outputs."""

    def fits(self, kept: Kept) -> bool:
        """Whether an array from outside is one that `keep` could have returned."""

    def add(self, kept: Kept, outputs: Mapping[str, Tensor]) -> None:
        """Count an artifact's outputs against what was kept of the original's."""

    def metrics(self) -> dict[str, float]:
        """Return the figures of all that was counted; none where nothing was."""


class Boxes:
    """Objects: those that the original is at least half as sure of as of its surest, up to 32.

    A row is (class, score, middle x, middle y, width, height), in shares of the picture. A box is
    matched where one of the artifact's, of the same class, at least half as sure and not matched
    yet, overlaps it by an intersection over union of at least a half; `boxes_iou` is the mean of
    those that are matched.
    """

    def __init__(self) -> None:
        self._wanted = 0
        self._overlaps: list[float] = []

    def keep(self, outputs: Mapping[str, Tensor]) -> Kept:
        """Return (boxes, 6) float32, the surest first."""
        rows = _objects(outputs)
        kept: Kept = rows[rows[:, 1] >= rows[0, 1] / 2][:_MOST_BOXES]
        return kept

    def fits(self, kept: Kept) -> bool:
        """Check kind and rank."""
        return kept.dtype == np.float32 and kept.ndim == 2 and kept.shape[1] == _BOX_COLUMNS

    def add(self, kept: Kept, outputs: Mapping[str, Tensor]) -> None:
        """Match each box with the artifact's best one."""
        self._wanted += len(kept)
        found = _objects(outputs)
        if not np.isfinite(found).all():
            return
        free = np.ones(len(found), bool)
        overlaps = _overlaps(kept[:, 2:], found[:, 2:])
        for wanted, row in zip(kept, overlaps, strict=True):
            alike = (found[:, 0] == wanted[0]) & (found[:, 1] >= wanted[1] / 2)
            fit = np.where(free & alike, row, 0.0)
            best = int(fit.argmax())
            if fit[best] >= _MATCHED_FROM:
                free[best] = False
                self._overlaps.append(float(fit[best]))

    def metrics(self) -> dict[str, float]:
        """Return `boxes_matched`, a share, and `boxes_iou`."""
        if not self._wanted:
            return {}
        mean = float(np.mean(self._overlaps)) if self._overlaps else 0.0
        return {"boxes_matched": len(self._overlaps) / self._wanted, "boxes_iou": mean}


class ClassMap:
    """The class of each pixel; mean intersection over union of the original's classes.

    Counted over all cases as Everingham et al. 2010 do, "The PASCAL VOC Challenge".
    """

    def __init__(self) -> None:
        self._both: dict[int, int] = {}
        self._either: dict[int, int] = {}
        self._alike = self._pixels = 0

    def keep(self, outputs: Mapping[str, Tensor]) -> Kept:
        """Return the classes int16 (rows, columns), of at most 128 a side."""
        logits = np.asarray(outputs["logits"], np.float32)[0]
        kept: Kept = _thinned(logits, 1, 2).argmax(axis=0).astype(np.int16)
        return kept

    def fits(self, kept: Kept) -> bool:
        """Check kind and rank."""
        return kept.dtype == np.int16 and kept.ndim == 2 and kept.size > 0

    def add(self, kept: Kept, outputs: Mapping[str, Tensor]) -> None:
        """Count pixels by class."""
        found = self.keep(outputs)
        self._pixels += kept.size
        if found.shape != kept.shape:
            found = np.full_like(kept, -1)
        self._alike += int(np.count_nonzero(kept == found))
        for number in np.union1d(kept, found).tolist():
            mine, theirs = kept == number, found == number
            self._both[number] = self._both.get(number, 0) + int(np.sum(mine & theirs))
            self._either[number] = self._either.get(number, 0) + int(np.sum(mine | theirs))

    def metrics(self) -> dict[str, float]:
        """Return `classes_iou` and `pixels_alike`, shares; a class weighs at least a thousandth."""
        if not self._pixels:
            return {}
        least = self._pixels / 1000
        shares = [self._both[n] / all_ for n, all_ in self._either.items() if all_ >= least]
        return {
            "classes_iou": float(np.mean(shares)),
            "pixels_alike": self._alike / self._pixels,
        }


class Depth:
    """How far each pixel is: the mean difference over the mean depth of the original."""

    def __init__(self) -> None:
        self._difference = self._depth = 0.0

    def keep(self, outputs: Mapping[str, Tensor]) -> Kept:
        """Return float32 (rows, columns), of at most 128 a side."""
        depth = np.asarray(outputs["predicted_depth"], np.float32)
        return _thinned(depth.reshape(depth.shape[-2:]), 0, 1)

    def fits(self, kept: Kept) -> bool:
        """Check kind and rank."""
        return kept.dtype == np.float32 and kept.ndim == 2 and kept.size > 0

    def add(self, kept: Kept, outputs: Mapping[str, Tensor]) -> None:
        """Add up differences."""
        found = self.keep(outputs)
        same = found.shape == kept.shape and bool(np.isfinite(found).all())
        difference = np.abs(found.astype(np.float64) - kept).mean() if same else _LARGEST
        self._difference += float(difference)
        self._depth += float(np.abs(kept.astype(np.float64)).mean())

    def metrics(self) -> dict[str, float]:
        """Return `depth_error`."""
        if not self._depth:
            return {}
        return {"depth_error": min(self._difference / self._depth, _LARGEST)}


class Letters:
    """What is written, one token a frame: the share of words, and of letters, that differ.

    `blank` stands for nothing, `gap` (-1 where there is none) between words.
    """

    def __init__(self, blank: int = 0, gap: int = -1) -> None:
        self._blank, self._gap = blank, gap
        self._words = self._letters = self._other_words = self._other_letters = 0
        self._counted = False

    def keep(self, outputs: Mapping[str, Tensor]) -> Kept:
        """Return the tokens, int32."""
        scores = np.asarray(outputs["logits"], np.float32)[0]
        return np.array(joined(scores.argmax(axis=-1), self._blank), np.int32)

    def fits(self, kept: Kept) -> bool:
        """Check kind and rank."""
        return kept.dtype == np.int32 and kept.ndim == 1

    def add(self, kept: Kept, outputs: Mapping[str, Tensor]) -> None:
        """Count the least changes from one text to the other."""
        self._counted = True
        wanted, found = kept.tolist(), self.keep(outputs).tolist()
        self._letters += len(wanted)
        self._other_letters += changes(wanted, found)
        words = self._split(wanted)
        self._words += len(words)
        self._other_words += changes(words, self._split(found))

    def metrics(self) -> dict[str, float]:
        """Return `cer`, and `wer` where words have gaps.

        Where the original writes nothing, each token counts as one.
        """
        if not self._counted:
            return {}
        found = {"cer": self._other_letters / max(self._letters, 1)}
        if self._gap < 0:
            return found
        return {**found, "wer": self._other_words / max(self._words, 1)}

    def _split(self, ids: list[int]) -> list[tuple[int, ...]]:
        words: list[list[int]] = [[]]
        for number in ids:
            if number == self._gap:
                words.append([])
            else:
                words[-1].append(number)
        return [tuple(word) for word in words if word]


VIEWS: dict[str, Any] = {"boxes": Boxes, "classes": ClassMap, "depth": Depth, "letters": Letters}


def open_view(name: str, settings: Mapping[str, int]) -> View | None:
    """Return a view by its name, None for no name; ValueError for one that is not known."""
    if not name:
        return None
    if name not in VIEWS:
        raise ValueError(f"there is no view {name!r}")
    opened: View = VIEWS[name](**settings)
    return opened


def _objects(outputs: Mapping[str, Tensor]) -> NDArray[np.float32]:
    """Every query as a row (class, score, box), the surest first; the last class is none."""
    shares = softmax(np.asarray(outputs["logits"], np.float32)[0])[:, :-1]
    boxes = np.asarray(outputs["pred_boxes"], np.float32)[0]
    rows = np.column_stack([shares.argmax(axis=1), shares.max(axis=1), boxes]).astype(np.float32)
    return rows[np.argsort(-rows[:, 1], kind="stable")]


def _overlaps(first: Kept, second: Kept) -> NDArray[np.float64]:
    """Intersection over union of each of the first boxes with each of the second."""
    (a_low, a_high), (b_low, b_high) = _corners(first), _corners(second)
    low = np.maximum(a_low[:, None], b_low[None])
    high = np.minimum(a_high[:, None], b_high[None])
    both = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = np.prod(a_high - a_low, axis=-1)[:, None] + np.prod(b_high - b_low, axis=-1)[None]
    return np.asarray(both / np.maximum(areas - both, 1e-12), np.float64)


def _corners(boxes: Kept) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    middle, half = boxes[:, :2].astype(np.float64), np.abs(boxes[:, 2:].astype(np.float64)) / 2
    return middle - half, middle + half


def _thinned(array: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Every n-th row and column, so that there are at most 128 of each."""
    for axis in (rows, columns):
        step = -(-array.shape[axis] // _MOST_SIDE)
        array = np.take(array, np.arange(0, array.shape[axis], step), axis=axis)
    return array
