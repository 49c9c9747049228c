"""Texts to tagged spans: one class a token, tokens of one entity joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.engines.base import EngineSession

from .classification import LOGITS
from .labels import label_of, read_config, read_labels, softmax
from .text_graph import TextGraph, check_items

OUTSIDE = "O"


class Tag(NamedTuple):
    """A span of the text, by characters, its class and the mean score of its tokens."""

    label: str
    score: float
    start: int
    end: int
    text: str


class _Token(NamedTuple):
    label: str
    begins: bool
    score: float
    start: int
    end: int


class TextTagger:
    """Joins words of one class into entities; in the `B-`/`I-` notation a `B-` begins another."""

    def __init__(self, folder: Path, engine: EngineSession) -> None:
        self.labels = read_labels(read_config(folder))
        self._graph = TextGraph(folder, engine, (LOGITS,))

    def __call__(self, texts: Sequence[str]) -> tuple[list[list[Tag]], int]:
        """Return each text's tags in order, without those of class `O`, and the tokens used."""
        given = check_items(texts, "tag()")
        if not given:
            return [], 0
        read = self._graph(given)
        found = [
            join(str(text), self._tokens(encoding, softmax(logits)))
            for text, encoding, logits in zip(given, read.encodings, read.outputs[0], strict=True)
        ]
        return found, read.tokens

    def _tokens(self, encoding: Any, scores: NDArray[np.float32]) -> list[_Token]:
        """A word has the class of its first token: the rest of it carries no label in training."""
        tokens: list[_Token] = []
        last_word = None
        for position, (start, end) in enumerate(encoding.offsets):
            word = encoding.word_ids[position]
            if encoding.special_tokens_mask[position] or start == end:
                last_word = None
                continue
            if word is not None and word == last_word and tokens:
                tokens[-1] = tokens[-1]._replace(end=end)
                continue
            last_word = word
            row = scores[position]
            prefix, label = _split(label_of(self.labels, int(row.argmax())))
            tokens.append(_Token(label, prefix == "B", float(row.max()), start, end))
        return tokens


def join(text: str, tokens: Sequence[_Token]) -> list[Tag]:
    """Join neighbouring words of one class; a `B-` begins another entity."""
    groups: list[list[_Token]] = []
    previous = OUTSIDE
    for token in tokens:
        if token.label == OUTSIDE:
            previous = OUTSIDE
            continue
        if token.label == previous and not token.begins:
            groups[-1].append(token)
        else:
            groups.append([token])
        previous = token.label
    return [_tag(text, group) for group in groups]


def _tag(text: str, group: Sequence[_Token]) -> Tag:
    start, end = group[0].start, group[-1].end
    score = sum(token.score for token in group) / len(group)
    return Tag(group[0].label, score, start, end, text[start:end])


def _split(label: str) -> tuple[str, str]:
    prefix, dash, name = label.partition("-")
    return (prefix, name) if dash and prefix in ("B", "I", "E", "S", "L", "U") else ("", label)
