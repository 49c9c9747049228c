"""What models see: classes of a picture, objects in it, the class and the depth of each pixel."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.engines.base import EngineSession

from .labels import Classified, best, label_of, read_config, read_labels, sigmoid, softmax
from .pictures import PIXELS, Picture, Pictures, resized_plane

Floats = NDArray[np.float32]


class Detected(NamedTuple):
    """An object: its class, how sure, and (left, top, right, bottom) in the picture's pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float]


class Segmented(NamedTuple):
    """The class of each pixel, int32 (height, width) of the picture, and the classes' names."""

    classes: NDArray[np.int32]
    labels: tuple[str, ...]

    def share(self, label: str) -> float:
        """Return the share of the picture that is of a class."""
        if label not in self.labels:
            raise UsageError(f"The model knows no class {label!r}")
        return float((self.classes == self.labels.index(label)).mean())


class _Seeing:
    def __init__(self, folder: Path, engine: EngineSession) -> None:
        config = read_config(folder)
        self.labels = read_labels(config)
        self._problem = config.get("problem_type")
        self._folder, self._engine = folder, engine

    @cached_property
    def _pictures(self) -> Pictures:
        """Read at the first picture: who runs the graph on tensors needs no settings."""
        return Pictures(self._folder, self._engine)

    def _seen(self, picture: Picture, *outputs: str) -> tuple[list[Floats], tuple[int, int]]:
        pixels, sides = self._pictures(picture)
        found = self._engine.run_prepared({PIXELS: pixels}, outputs)
        values = [np.asarray(value[0], np.float32) for value in found]
        if not all(np.isfinite(value).all() for value in values):
            raise EngineError("The model gave values that are not finite")
        return values, sides


class PictureClassifier(_Seeing):
    """Classes of a picture."""

    def __call__(self, picture: Picture, top_k: int | None = None) -> list[Classified]:
        """Return the classes with their scores, the best first."""
        if top_k is not None and top_k < 1:
            raise UsageError(f"top_k is at least 1, not {top_k}")
        (logits,), _ = self._seen(picture, "logits")
        several = self._problem == "multi_label_classification"
        return best(sigmoid(logits) if several else softmax(logits), self.labels, top_k)


class Detector(_Seeing):
    """Objects in a picture: DETR's way, a class for each query, the last one for nothing."""

    def __call__(self, picture: Picture, threshold: float = 0.5) -> list[Detected]:
        """Return the objects whose score is above `threshold`, the surest first."""
        if not 0 <= threshold <= 1:
            raise UsageError(f"threshold is from 0 to 1, not {threshold}")
        (logits, boxes), (height, width) = self._seen(picture, "logits", "pred_boxes")
        shares = softmax(logits)[:, :-1]
        classes, scores = shares.argmax(axis=1), shares.max(axis=1)
        middle, half = boxes[:, :2], boxes[:, 2:] / 2
        corners = np.concatenate([middle - half, middle + half], axis=1)
        corners *= np.array([width, height, width, height], np.float32)
        kept = [n for n in np.argsort(-scores, kind="stable") if scores[n] > threshold]
        return [
            Detected(
                label_of(self.labels, int(classes[n])),
                float(scores[n]),
                _box(corners[n]),
            )
            for n in kept
        ]


class Segmenter(_Seeing):
    """The class of each pixel."""

    def __call__(self, picture: Picture) -> Segmented:
        """Return the likeliest class of each of the picture's own pixels."""
        (logits,), sides = self._seen(picture, "logits")
        largest = resized_plane(logits[0], sides)
        classes = np.zeros(sides, np.int32)
        for number, plane in enumerate(logits[1:], 1):
            grown = resized_plane(plane, sides)
            higher = grown > largest
            classes[higher], largest = number, np.maximum(grown, largest)
        names = tuple(label_of(self.labels, number) for number in range(len(logits)))
        return Segmented(classes, names)


class DepthEstimator(_Seeing):
    """How far each pixel is, or how near: in the model's own unit."""

    def __call__(self, picture: Picture) -> Floats:
        """Return float32 (height, width) of the picture's own size."""
        (depth,), sides = self._seen(picture, "predicted_depth")
        return resized_plane(depth.reshape(depth.shape[-2:]), sides, cubic=True)


def _box(corners: Floats) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(edge) for edge in corners)
    return left, top, right, bottom
