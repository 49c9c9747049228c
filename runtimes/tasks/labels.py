"""Class names and scores: what a model's configuration says its logits mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import SourceError

from .pooling import read_json

Floats = NDArray[np.float32]
MOST_LABELS = 1_000_000


class Classified(NamedTuple):
    """A class and its score, 0 to 1 unless the model is a regression."""

    label: str
    score: float


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json as an object; SourceError where it is none."""
    document = read_json(folder / "config.json")
    if not isinstance(document, dict):
        raise SourceError(f"{folder}/config.json is not an object")
    return document


def read_labels(config: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes in order; those that are not named are `LABEL_n`."""
    named = config.get("id2label")
    if not isinstance(named, dict) or not named:
        return ()
    labels: dict[int, str] = {}
    for number, label in named.items():
        if not str(number).isdecimal() or int(number) >= MOST_LABELS or not isinstance(label, str):
            raise SourceError(
                "config.json's id2label is not one", why=f"{number!r}: {label!r}"[:200]
            )
        labels[int(number)] = label
    return tuple(labels.get(n, f"LABEL_{n}") for n in range(max(labels) + 1))


def label_of(labels: tuple[str, ...], number: int) -> str:
    """Return a class's name, `LABEL_n` where it has none."""
    return labels[number] if number < len(labels) else f"LABEL_{number}"


def softmax(logits: Floats) -> Floats:
    """Return the shares of each row."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def sigmoid(logits: Floats) -> Floats:
    """Return each value's own probability."""
    decayed = np.exp(-np.abs(logits))
    found: Floats = np.where(logits >= 0, 1 / (1 + decayed), decayed / (1 + decayed))
    return found


def best(scores: Floats, labels: tuple[str, ...], top_k: int | None) -> list[Classified]:
    """Return the classes of one row, the best first; all of them where `top_k` is None."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [Classified(label_of(labels, int(n)), float(scores[n])) for n in order]
