"""Whole texts through llama.cpp: the last hidden state of every token, for embedding models.

Rows of a batch are sequences of one llama.cpp batch. Attention is computed between all of its
tokens and masked afterwards, so that only short rows share one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError

from .base import Tensor
from .llama_decoder import ContextPool
from .llama_native import Context, ContextShape, Model

Floats = NDArray[np.float32]
_SHARED_TOKENS = 256
_ROWS = 32


class LlamaEncoder:
    """Runs batches of texts; threads may share it, each gets a context of its own."""

    def __init__(self, model: Model, threads: int, exact: bool, limit: int | None) -> None:
        def make(tokens: int) -> Context:
            shape = ContextShape(tokens, tokens, tokens, threads, exact, True, _ROWS)
            return Context(model, shape)

        self._contexts, self._width, self._limit = ContextPool(make), model.width, limit

    def run(self, ids: Tensor, mask: Tensor) -> Floats:
        """Return hidden states (rows, sequence, width) of ids (rows, sequence), zeros at padding.

        Raises UsageError where a row is longer than the model takes or shapes disagree.
        """
        if ids.ndim != 2 or ids.shape != mask.shape:
            raise UsageError(
                "The inputs do not fit together", why=f"shapes {ids.shape} and {mask.shape}"
            )
        real = mask.astype(bool)
        longest = int(real.sum(axis=1).max(initial=0))
        if self._limit is not None and longest > self._limit:
            raise UsageError("A text is too long", why=f"{longest} tokens, at most {self._limit}")
        found = np.zeros((*ids.shape, self._width), np.float32)
        for rows in _groups(real):
            self._fill(found, ids, real, rows)
        return found

    def _fill(
        self, found: Floats, ids: Tensor, real: NDArray[np.bool_], rows: NDArray[np.int64]
    ) -> None:
        texts, columns = np.nonzero(real[rows])
        places = rows[texts], columns
        context = self._contexts.take(-(-len(texts) // _SHARED_TOKENS) * _SHARED_TOKENS)
        found[places] = context.hidden(
            ids[places].astype(np.int32), columns.astype(np.int32), texts.astype(np.int32)
        )
        # Not where it raised: what it holds then is not known.
        self._contexts.give(context)


def _groups(real: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Rows that share a batch: some short ones, or a long one alone; empty rows are left out."""
    lengths = real.sum(axis=1)
    group: list[int] = []
    tokens = 0
    for row in np.argsort(lengths, kind="stable"):
        if not lengths[row]:
            continue
        if group and (tokens + lengths[row] > _SHARED_TOKENS or len(group) == _ROWS):
            yield np.array(group, np.int64)
            group, tokens = [], 0
        group.append(int(row))
        tokens += int(lengths[row])
    if group:
        yield np.array(group, np.int64)
