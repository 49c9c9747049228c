"""Decoders in TFLite: signatures that take a cache and give it back, run without copying it.

A signature has `tokens` (1, count), their places `input_pos` (count,) one behind the other, and the
cache by name; it gives `logits` and the cache by the same names. LiteRT-LM calls it the same way.
Two copies of a cache lie in memory that LiteRT reads and writes itself: what one call wrote is what
the next one reads.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UsageError

from .base import Tensor
from .freed_blocks import own_pages
from .litert_file import FileGraph, FileSignature, TFLiteFile

TOKENS, PLACES, LOGITS = "tokens", "input_pos", "logits"
# XNNPACK packs weights for each signature anew unless it has a place for them; this is none on the
# disk. Source: TfLiteXNNPackDelegateInMemoryFilePath, which Linux alone has.
_PACKED_ONCE = ":memory"
_KINDS: Mapping[str, type[np.generic]] = {"encoder_attention_mask": np.int32}


@dataclass(frozen=True, slots=True)
class Call:
    """One signature: how many tokens it takes, and its logits' shape."""

    name: str
    tokens: int
    logits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a decoder's signatures share: calls by their tokens, shapes of what is kept and held."""

    calls: Mapping[int, Call]
    cache: Mapping[str, tuple[int, ...]]
    held: Mapping[str, tuple[int, ...]]

    @property
    def context(self) -> int:
        """How many tokens a cache holds."""
        return next(iter(self.cache.values()))[2]


def layout_of(told: TFLiteFile) -> Layout | None:
    """Return how a file decodes, None where it is no decoder with a cache.

    Raises EngineError where its signatures do not share one cache.
    """
    first = told.signatures[0]
    if not {TOKENS, PLACES} <= set(first.inputs) or LOGITS not in first.outputs:
        return None
    found = [_layout(told.graphs[one.graph], one) for one in told.signatures]
    cache, held = found[0][1:]
    if not cache or any(each[1:] != (cache, held) for each in found):
        raise EngineError("The file's signatures do not share one cache")
    if len({shape[2] for shape in cache.values()}) != 1:
        raise EngineError("The file's cache is not of one length")
    return Layout({each[0].tokens: each[0] for each in found}, cache, held)


def _layout(
    graph: FileGraph, one: FileSignature
) -> tuple[Call, dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    shapes = {name: graph.tensors[index].shape for name, index in one.inputs.items()}
    told = {name: graph.tensors[index].shape for name, index in one.outputs.items()}
    ids, places, logits = shapes.pop(TOKENS), shapes.pop(PLACES, ()), told[LOGITS]
    cache = {name: shape for name, shape in shapes.items() if name in told}
    fits = all(len(shape) == 4 and told[name] == shape for name, shape in cache.items())
    one_each = len(ids) == 2 and ids[0] == 1 and places == ids[1:]
    if not one_each or len(logits) != 3 or logits[1] != ids[1] or not fits:
        raise EngineError(f"The signature {one.name} is not one of a decoder with a cache")
    held = {name: shape for name, shape in shapes.items() if name not in cache}
    return Call(one.name, ids[1], logits), cache, held


class SlotCache:
    """One text's cache, twice, and what its calls look back at.

    Buffers are the runtime's own: of memory from outside it knows no shape.
    """

    def __init__(self, layout: Layout, model: Any, held: Mapping[str, Tensor]) -> None:
        any_call = next(iter(layout.calls.values())).name
        self.now = {
            name: _written(model, any_call, name, np.zeros(shape, np.float32))
            for name, shape in layout.cache.items()
        }
        # A call writes all of it before another reads it.
        self.then = {
            name: model.create_input_buffer_by_name(any_call, name) for name in layout.cache
        }
        for name, shape in layout.held.items():
            if name not in held or held[name].shape != shape:
                raise UsageError(f"The decoder needs {name} of shape {list(shape)}")
        self.held = {name: _written(model, any_call, name, held[name]) for name in layout.held}


def _written(model: Any, call: str, name: str, value: Tensor) -> Any:
    buffer = model.create_input_buffer_by_name(call, name)
    buffer.write(np.ascontiguousarray(value, _KINDS.get(name, np.float32)))
    return buffer


def places_of(position: int, size: int) -> NDArray[np.int32]:
    """Return the places of so many tokens from `position` on, (size,)."""
    return np.arange(position, position + size, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class CompiledSlots:
    """A decoder on ai-edge-litert: a SlottedEngine of `runtimes/tasks/slots.py`.

    Calls come one at a time, whichever text they are of, and share what they take and give beside
    its cache: buffers of tokens, places and logits, made when a call is first run.
    """

    layout: Layout
    model: Any
    turn: threading.Lock = field(default_factory=threading.Lock)
    _ends: dict[int, tuple[Any, Any, Any]] = field(default_factory=dict)

    @property
    def context(self) -> int:
        """How many tokens a cache holds."""
        return self.layout.context

    @property
    def steps(self) -> Sequence[int]:
        """How many tokens a call may have."""
        return sorted(self.layout.calls)

    def fresh(self, held: Mapping[str, Tensor]) -> SlotCache:
        """Return a cache that has seen nothing; UsageError where something held is missing."""
        return SlotCache(self.layout, self.model, held)

    def call(
        self,
        size: int,
        ids: NDArray[np.int32],
        position: int,
        cache: SlotCache,
        told: int | None = None,
    ) -> Tensor:
        """Run `ids` (1, size) from slot `position` on: logits (1, told, vocabulary)."""
        call = self.layout.calls[size]
        with self.turn:
            given, places, logits = self._ends_of(call)
            given.write(np.ascontiguousarray(ids, np.int32))
            places.write(places_of(position, size))
            inputs = {**cache.now, **cache.held, TOKENS: given, PLACES: places}
            try:
                self.model.run_by_name(call.name, inputs, {**cache.then, LOGITS: logits})
            except (ValueError, RuntimeError) as error:
                raise EngineError("LiteRT failed while running", why=_words(error)) from error
            cache.now, cache.then = cache.then, cache.now
            return _read(logits, size if told is None else told, call.logits[-1])

    def _ends_of(self, call: Call) -> tuple[Any, Any, Any]:
        if call.tokens not in self._ends:
            self._ends[call.tokens] = (
                self.model.create_input_buffer_by_name(call.name, TOKENS),
                self.model.create_input_buffer_by_name(call.name, PLACES),
                self.model.create_output_buffer_by_name(call.name, LOGITS),
            )
        return self._ends[call.tokens]


def _read(logits: Any, rows: int, vocabulary: int) -> Tensor:
    """The first rows of a buffer, copied."""
    if not rows:
        return np.empty((1, 0, vocabulary), np.float32)
    return np.asarray(logits.read(rows * vocabulary, np.float32).reshape(1, rows, vocabulary))


def open_slots(path: Path, layout: Layout, threads: int) -> CompiledSlots:
    """Load a decoder for ai-edge-litert; EngineError where the runtime refuses it."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.cpu_options import CpuOptions
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import Options

    options = Options(
        hardware_accelerators=HardwareAccelerator.CPU,
        cpu_options=CpuOptions(
            num_threads=threads,
            xnnpack_weight_cache_path=_PACKED_ONCE if sys.platform == "linux" else "",
        ),
    )
    own_pages()
    try:
        model = CompiledModel.from_file(str(path), options=options)
    except (ValueError, RuntimeError, TypeError) as error:
        raise EngineError(f"LiteRT cannot load {path.name}", why=_words(error)) from error
    return CompiledSlots(layout, model)


def _words(error: Exception) -> str:
    """The runtime tells where it failed in several lines: the last has the cause."""
    lines = [line.strip("└ ") for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:500]
