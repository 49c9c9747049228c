"""Decoders in TFLite: signatures that take a cache and give it back, run without copying it.

A signature has `input_ids` (1, tokens), `position` (1,) and the cache by name; it gives `logits`
and each of the cache as `new_NAME`. Two copies of a cache lie in memory that LiteRT reads and
writes itself: what one call wrote is what the next one reads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UsageError

from .base import Tensor
from .litert_file import FileGraph, FileSignature, TFLiteFile

IDS, POSITION, LOGITS = "input_ids", "position", "logits"
NEW = "new_"
_ALIGNMENT = 64
_FLOATS, _INTEGERS = np.dtype(np.float32), np.dtype(np.int32)


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
    if not {IDS, POSITION} <= set(first.inputs) or LOGITS not in first.outputs:
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
    ids, logits = shapes.pop(IDS), told[LOGITS]
    shapes.pop(POSITION, None)
    cache = {name: shape for name, shape in shapes.items() if f"{NEW}{name}" in told}
    fits = all(len(shape) == 4 and told[f"{NEW}{name}"] == shape for name, shape in cache.items())
    if len(ids) != 2 or ids[0] != 1 or len(logits) != 3 or logits[1] != ids[1] or not fits:
        raise EngineError(f"The signature {one.name} is not one of a decoder with a cache")
    held = {name: shape for name, shape in shapes.items() if name not in cache}
    return Call(one.name, ids[1], logits), cache, held


class SlotCache:
    """One text's cache, twice, and what its calls read and write beside it."""

    def __init__(self, layout: Layout, buffer: Any, held: Mapping[str, Tensor]) -> None:
        self._layout, self._buffer = layout, buffer
        self.now = {name: _Held.of(buffer, shape) for name, shape in layout.cache.items()}
        self.then = {name: _Held.of(buffer, shape) for name, shape in layout.cache.items()}
        self.held = {name: _Held.of(buffer, shape) for name, shape in layout.held.items()}
        for name, value in self.held.items():
            if name not in held or held[name].shape != value.array.shape:
                raise UsageError(f"The decoder needs {name} of shape {list(value.array.shape)}")
            value.array[...] = held[name]
        self.position = _Held.of(buffer, (1,), _INTEGERS)
        self._ends: dict[int, tuple[_Held, _Held]] = {}

    def ends(self, call: Call) -> tuple[_Held, _Held]:
        """Return ids and logits of a call, made when it is first run."""
        if call.tokens not in self._ends:
            ids = _Held.of(self._buffer, (1, call.tokens), _INTEGERS)
            self._ends[call.tokens] = ids, _Held.of(self._buffer, call.logits)
        return self._ends[call.tokens]


@dataclass(frozen=True, slots=True)
class _Held:
    """An array and LiteRT's name for the same memory."""

    array: NDArray[Any]
    buffer: Any

    @classmethod
    def of(cls, buffer: Any, shape: Sequence[int], dtype: np.dtype[Any] = _FLOATS) -> _Held:
        array = _aligned(shape, dtype)
        return cls(array, buffer.create_from_host_memory(array))


@dataclass(frozen=True, slots=True)
class CompiledSlots:
    """A decoder on ai-edge-litert: a SlottedEngine of `runtimes/tasks/slots.py`."""

    layout: Layout
    model: Any
    buffer: Any
    turn: threading.Lock = field(default_factory=threading.Lock)

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
        return SlotCache(self.layout, self.buffer, held)

    def call(self, size: int, ids: NDArray[np.int32], position: int, cache: SlotCache) -> Tensor:
        """Run `ids` (1, size) from slot `position` on: logits (1, size, vocabulary)."""
        call = self.layout.calls[size]
        given, logits = cache.ends(call)
        given.array[...] = ids
        cache.position.array[0] = position
        inputs = {name: one.buffer for name, one in (*cache.now.items(), *cache.held.items())}
        inputs |= {IDS: given.buffer, POSITION: cache.position.buffer}
        outputs = {f"{NEW}{name}": one.buffer for name, one in cache.then.items()}
        with self.turn:
            try:
                self.model.run_by_name(call.name, inputs, {**outputs, LOGITS: logits.buffer})
            except (ValueError, RuntimeError) as error:
                raise EngineError("LiteRT failed while running", why=str(error)[:500]) from error
        cache.now, cache.then = cache.then, cache.now
        return logits.array


def open_slots(path: Path, layout: Layout, threads: int) -> CompiledSlots:
    """Load a decoder for ai-edge-litert; EngineError where the runtime refuses it."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.cpu_options import CpuOptions
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import Options
    from ai_edge_litert.tensor_buffer import TensorBuffer

    options = Options(
        hardware_accelerators=HardwareAccelerator.CPU,
        cpu_options=CpuOptions(num_threads=threads),
    )
    try:
        model = CompiledModel.from_file(str(path), options=options)
    except (ValueError, RuntimeError, TypeError) as error:
        raise EngineError(f"LiteRT cannot load {path.name}", why=str(error)[:500]) from error
    return CompiledSlots(layout, model, TensorBuffer)


def _aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros that begin where LiteRT takes memory as it is, so that it copies none."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
