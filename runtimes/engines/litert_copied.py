"""Decoders on tflite-runtime: the cache goes in and out as arrays, which the interpreter copies."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UsageError

from .base import Tensor
from .litert_slots import LOGITS, PLACES, TOKENS, Layout, places_of


@dataclass(slots=True)
class ArrayCache:
    """One text's cache, and what it looks back at."""

    now: dict[str, Tensor]
    held: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class CopiedSlots:
    """A SlottedEngine of `runtimes/tasks/slots.py` over an interpreter's signatures."""

    layout: Layout
    interpreter: Any
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def context(self) -> int:
        """How many tokens a cache holds."""
        return self.layout.context

    @property
    def steps(self) -> Sequence[int]:
        """How many tokens a call may have."""
        return sorted(self.layout.calls)

    def fresh(self, held: Mapping[str, Tensor]) -> ArrayCache:
        """Return a cache that has seen nothing; UsageError where something held is missing."""
        for name, shape in self.layout.held.items():
            if name not in held or held[name].shape != shape:
                raise UsageError(f"The decoder needs {name} of shape {list(shape)}")
        empty = {name: np.zeros(shape, np.float32) for name, shape in self.layout.cache.items()}
        kept = {name: np.asarray(held[name], np.float32) for name in self.layout.held}
        return ArrayCache(dict(empty), kept)

    def call(
        self,
        size: int,
        ids: NDArray[np.int32],
        position: int,
        cache: ArrayCache,
        told: int | None = None,
    ) -> Tensor:
        """Run `ids` (1, size) from slot `position` on: logits (1, told, vocabulary)."""
        given = {**cache.now, **cache.held, TOKENS: np.ascontiguousarray(ids, np.int32)}
        given[PLACES] = places_of(position, size)
        with self.turn:
            try:
                runner = self.interpreter.get_signature_runner(self.layout.calls[size].name)
                found = runner(**given)
            except (ValueError, RuntimeError) as error:
                why = str(error)[:500]
                raise EngineError("tflite-runtime failed while running", why=why) from error
        cache.now = {name: found[name] for name in cache.now}
        return np.asarray(found[LOGITS])[:, :told]
