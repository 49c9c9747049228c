"""A text with a gap to the tokens that fit it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgeward.errors import UsageError
from edgeward.runtimes.engines.base import EngineSession

from .classification import LOGITS
from .labels import softmax
from .text_graph import TextGraph, check_items


class Filled(NamedTuple):
    """A token for the gap, its share among all tokens, and the text with it in place."""

    token: str
    score: float
    text: str


class MaskFiller:
    """Fills one gap a text; the gap is written as the model's own mask token, or `[MASK]`."""

    def __init__(self, folder: Path, engine: EngineSession) -> None:
        self._graph = TextGraph(folder, engine, (LOGITS,))
        self.mask, self._mask_id = self._graph.tokenizer.mask_token()

    def __call__(self, text: str, top_k: int = 5) -> tuple[list[Filled], int]:
        """Return the tokens that fit best, and the tokens used."""
        if top_k < 1:
            raise UsageError(f"top_k is at least 1, not {top_k}")
        check_items([text], "fill()")
        given = text.replace("[MASK]", self.mask)
        read = self._graph([given])
        ids = np.array(read.encodings[0].ids)
        gaps = np.flatnonzero(ids == self._mask_id)
        if len(gaps) != 1:
            raise UsageError(
                f"The text has {len(gaps)} gaps, fill() takes one", why=f"a gap is {self.mask}"
            )
        scores = softmax(read.outputs[0][0, gaps[0]])
        order = np.argsort(-scores, kind="stable")[:top_k]
        tokens = [self._graph.tokenizer.decode([int(token)]) for token in order]
        found = [
            Filled(token, float(scores[number]), given.replace(self.mask, token))
            for token, number in zip(tokens, order, strict=True)
        ]
        return found, read.tokens
