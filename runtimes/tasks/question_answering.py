"""A question and a text to the span that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError
from edgeward.runtimes.engines.base import EngineSession

from .labels import softmax
from .text_graph import TextGraph, check_items

OUTPUTS = ("start_logits", "end_logits")
LONGEST_ANSWER = 30
_STRIDE = 128


class Answer(NamedTuple):
    """A span of the context, by characters, and its share among all spans of its window."""

    text: str
    score: float
    start: int
    end: int


class Answerer:
    """Reads a context longer than the model's limit in windows that overlap."""

    def __init__(self, folder: Path, engine: EngineSession) -> None:
        self._graph = TextGraph(folder, engine, OUTPUTS)
        self._graph.tokenizer.window_pairs(_STRIDE)

    def __call__(self, question: str, context: str, top_k: int = 1) -> tuple[list[Answer], int]:
        """Return the best answers that do not overlap, and the tokens used."""
        if top_k < 1:
            raise UsageError(f"top_k is at least 1, not {top_k}")
        check_items([(question, context)], "answer()")
        if not context.strip():
            raise UsageError("answer() needs a context", why="it is empty")
        read = self._graph([(question, context)])
        found: list[Answer] = []
        for encoding, starts, ends in zip(read.encodings, *read.outputs, strict=True):
            found += _spans(context, encoding, softmax(starts), softmax(ends), top_k)
        found.sort(key=lambda answer: -answer.score)
        return _apart(found)[:top_k], read.tokens


def _spans(
    context: str,
    encoding: Any,
    starts: NDArray[np.float32],
    ends: NDArray[np.float32],
    top_k: int,
) -> list[Answer]:
    inside = np.array([part == 1 for part in encoding.sequence_ids])
    scores = np.outer(np.where(inside, starts, 0), np.where(inside, ends, 0))
    scores = np.triu(scores) - np.triu(scores, LONGEST_ANSWER)
    order = np.argsort(-scores, axis=None)[: top_k * 10]
    found = []
    for first, last in zip(*np.unravel_index(order, scores.shape), strict=True):
        if inside[first] and inside[last]:
            start, end = encoding.offsets[first][0], encoding.offsets[last][1]
            found.append(Answer(context[start:end], float(scores[first, last]), start, end))
    return found


def _apart(answers: Sequence[Answer]) -> list[Answer]:
    kept: list[Answer] = []
    for answer in answers:
        if all(answer.end <= other.start or answer.start >= other.end for other in kept):
            kept.append(answer)
    return kept
