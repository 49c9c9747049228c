"""Texts on their way through llama.cpp: a context each, lent from a pool, grown as they need it.

A context of its own lets threads decode at the same time over one set of weights. It holds only as
many tokens as its text has come to, rounded up and doubled when it is full (the state is copied),
never the model's whole context. Logits are computed for the last token alone where no more are
asked for, which keeps the buffers of a large vocabulary small.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError

from .base import Tensor
from .llama_native import TOKENS_STEP, Context, ContextShape, Model

Floats = NDArray[np.float32]
PREFILL_TOKENS = 512
# Logits of so many tokens at once: a proof asks for those of every token.
_OUTPUTS = 128
_FIRST_ROOM = 128
_KEPT = 2


class ContextPool:
    """Contexts that nobody uses at the moment; a few are kept, the others freed."""

    def __init__(self, make: Callable[[int], Context], kept: int = _KEPT) -> None:
        self._make, self._kept = make, kept
        self._idle: list[Context] = []
        self._lock = threading.Lock()

    def take(self, tokens: int) -> Context:
        """Return an empty context with room for so many tokens: the smallest, else a new one."""
        with self._lock:
            fitting = [one for one in self._idle if one.shape.tokens >= tokens]
            if fitting:
                context = min(fitting, key=lambda one: one.shape.tokens)
                self._idle.remove(context)
                return context
            # One that is too small makes way for the one that is made.
            self._idle = self._idle[1:]
        return self._make(tokens)

    def give(self, context: Context) -> None:
        """Take a context back."""
        context.clear()
        with self._lock:
            if len(self._idle) < self._kept:
                self._idle.append(context)


class _Lease:
    """Holds a state's context, so that it goes back to its pool when the state is dropped."""

    def __init__(self) -> None:
        self.context: Context | None = None
        self.pool: ContextPool | None = None

    def end(self) -> None:
        """Give the context back."""
        if self.context is not None and self.pool is not None:
            self.pool.give(self.context)
        self.context = None


class LlamaDecoder:
    """Starts texts; one row each, as every text has a context of its own."""

    batched = False

    def __init__(self, model: Model, threads: int, exact: bool) -> None:
        def pool(outputs: int, batch: int) -> ContextPool:
            def make(tokens: int) -> Context:
                shape = ContextShape(tokens, min(batch, tokens), outputs, threads, exact)
                return Context(model, shape)

            return ContextPool(make)

        self.last, self.every = pool(1, PREFILL_TOKENS), pool(_OUTPUTS, _OUTPUTS)

    def start(self, rows: int = 1) -> LlamaState:
        """Return a state that has seen nothing; UnsupportedError for several rows."""
        if rows != 1:
            raise UnsupportedError("llama.cpp runs one text at a time here", why=f"not {rows}")
        return LlamaState(self)


class LlamaState:
    """One text on its way; used by one thread at a time."""

    def __init__(self, decoder: LlamaDecoder) -> None:
        self._decoder, self._lease, self._seen = decoder, _Lease(), 0
        weakref.finalize(self, self._lease.end).atexit = False

    def next_logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens and return the logits after the last, (vocabulary,)."""
        return np.asarray(self._run(ids, 1)[0])

    def logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens and return the logits after each, (sequence, vocabulary)."""
        return self._run(ids, len(ids))

    def step(self, ids: Tensor, mask: Tensor, kept: int = 0) -> Floats:
        """Add tokens (1, new): logits (1, new, vocabulary), or of the last `kept` alone.

        `mask` (1, seen and new) has no padding: UnsupportedError where it has.
        """
        if len(ids) != 1 or not np.all(mask):
            raise UnsupportedError("llama.cpp runs one text at a time here, without padding")
        return np.asarray(self._run(ids[0].tolist(), kept or ids.shape[1])[np.newaxis])

    def _run(self, ids: Sequence[int], wanted: int) -> Floats:
        context = self._roomy(len(ids), wanted)
        given = np.asarray(ids, np.int32)
        try:
            found = _decoded(context, given, wanted)
        except BaseException:
            # What it holds now is not known.
            self._lease.context = None
            raise
        self._seen += len(given)
        return found

    def _roomy(self, new: int, wanted: int) -> Context:
        """The context with room for new tokens: a larger one, the text copied, where it is full."""
        lease, needed = self._lease, self._seen + new
        held = lease.context
        if held is not None and needed <= held.shape.tokens:
            return held
        if lease.pool is None:
            lease.pool = self._decoder.last if wanted == 1 else self._decoder.every
        room = max(needed + _FIRST_ROOM if held is None else 2 * held.shape.tokens, needed)
        larger = lease.pool.take(-(-room // TOKENS_STEP) * TOKENS_STEP)
        if held is not None:
            held.copy_to(larger)
        lease.context = larger
        return larger


def _decoded(context: Context, ids: NDArray[np.int32], wanted: int) -> Floats:
    """Logits of the last `wanted` tokens, in parts of as many as the context has room for."""
    batch, outputs = context.shape.batch, context.shape.outputs
    unwanted = len(ids) if wanted == 1 else len(ids) - wanted
    for at in range(0, unwanted, batch):
        rows = context.decode(ids[at : min(at + batch, unwanted)], 1)
    if wanted == 1:
        return rows
    parts = range(unwanted, len(ids), outputs)
    rows_of = [context.decode(part := ids[at : at + outputs], len(part)) for at in parts]
    return rows_of[0] if len(rows_of) == 1 else np.concatenate(rows_of)
