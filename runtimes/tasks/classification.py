"""Texts, or pairs of them, to classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeward.errors import UsageError
from edgeward.runtimes.engines.base import EngineSession

from .labels import Classified, best, read_config, read_labels, sigmoid, softmax
from .text_graph import Text, TextGraph, check_items

LOGITS = "logits"


class TextClassifier:
    """Scores as the model's `problem_type` says: shares, probabilities of each, or plain values."""

    def __init__(self, folder: Path, engine: EngineSession) -> None:
        config = read_config(folder)
        self.labels = read_labels(config)
        self._graph = TextGraph(folder, engine, (LOGITS,))
        self._problem = config.get("problem_type")

    def __call__(
        self, texts: Sequence[Text], top_k: int | None = None
    ) -> tuple[list[list[Classified]], int]:
        """Return each text's classes, the best first, and the tokens used."""
        if top_k is not None and top_k < 1:
            raise UsageError(f"top_k is at least 1, not {top_k}")
        given = check_items(texts, "classify()")
        if not given:
            return [], 0
        read = self._graph(given)
        (logits,) = read.outputs
        if self._problem == "regression":
            scores = logits
        elif self._problem == "multi_label_classification" or logits.shape[-1] == 1:
            scores = sigmoid(logits)
        else:
            scores = softmax(logits)
        return [best(row, self.labels, top_k) for row in scores], read.tokens
