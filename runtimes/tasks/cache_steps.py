"""A decoder's keys and values between two steps, kept where the engine computes.

In ONNX Runtime the cache never becomes a numpy array: what one step gives is bound to the next.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UnsupportedError
from edgeward.runtimes.engines.base import EngineSession, Tensor
from edgeward.runtimes.engines.huge_pages import ask_for_huge_pages

from .cache_pages import let_go, pages

Floats = NDArray[np.float32]
LOGITS = "logits"
# In a graph's metadata: one buffer may be past and present, longer than what it holds.
SHARED_CACHE = "edgeward.shared_cache"
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
_DEVICES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}
_CAPACITY_STEP = 256


class Steps(Protocol):
    """Runs tokens after those that it has seen."""

    def run(self, inputs: Mapping[str, Tensor]) -> Floats:
        """Run the text inputs and keep the cache: logits (rows, sequence, vocabulary).

        Those of a single token are overwritten by the next run.
        """


@dataclass(frozen=True, slots=True)
class Cache:
    """How a graph's cache begins: `past` and `present` name its inputs and outputs in one order.

    `empty` are the first values, (rows, heads, 0, width) each; `held` are inputs that stay as they
    are from step to step.
    """

    past: Sequence[str]
    present: Sequence[str]
    empty: Sequence[Tensor]
    held: Mapping[str, Tensor] = field(default_factory=dict)


def open_steps(engine: EngineSession, cache: Cache) -> Steps:
    """Return what runs the graph step by step, the fastest way that the engine has."""
    native = native_of(engine)
    if native is None:
        return _ArraySteps(engine, cache)
    device = _DEVICES.get(engine.ref.provider or "", "cpu")
    if device == "cpu" and _shares_cache(native):
        return _SharedSteps(native, cache, device)
    if device == "cpu" and cache.held:
        return _TurnedSteps(native, cache)
    return _BoundSteps(native, cache, device)


def native_of(engine: EngineSession) -> Any:
    """Return ONNX Runtime's own session, None for another engine."""
    return getattr(engine, "native", None) if engine.ref.name == "onnxruntime" else None


def empty_inputs(native: Any, names: Sequence[str], rows: int) -> list[Tensor]:
    """Return a past of no tokens for each input of ONNX Runtime's session."""
    shapes = {item.name: (item.shape, item.type) for item in native.get_inputs()}
    return [_nothing(*shapes[name], rows) for name in names]


class _BoundSteps:
    """ONNX Runtime: the cache goes from step to step as OrtValues on the engine's device."""

    def __init__(self, native: Any, cache: Cache, device: str) -> None:
        self._native, self._device = native, device
        self._past, self._present = cache.past, cache.present
        self._cache = [self._value(array) for array in cache.empty]
        self._held = {name: self._value(array) for name, array in cache.held.items()}

    def run(self, inputs: Mapping[str, Tensor]) -> Floats:
        binding = self._native.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        for name, value in [*zip(self._past, self._cache, strict=True), *self._held.items()]:
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(LOGITS, "cpu")
        for name in self._present:
            binding.bind_output(name, self._device)
        _run_bound(self._native, binding)
        logits, *self._cache = binding.get_outputs()
        return np.asarray(logits.numpy(), np.float32)

    def _value(self, array: Tensor) -> Any:
        return _value(array, self._device)


class _SharedSteps:
    """ONNX Runtime on the processor: past and present are one buffer, which nothing copies."""

    def __init__(self, native: Any, cache: Cache, device: str) -> None:
        self._native, self._device = native, device
        self._names = list(zip(cache.past, cache.present, strict=True))
        self._buffers = list(cache.empty)
        self._binding = native.io_binding()
        self._one_token: tuple[Floats, Any] | None = None
        for name, array in cache.held.items():
            self._binding.bind_cpu_input(name, array)

    def run(self, inputs: Mapping[str, Tensor]) -> Floats:
        self._make_room(np.shape(inputs["attention_mask"])[1])
        for name, array in inputs.items():
            self._binding.bind_cpu_input(name, array)
        if self._one_token is not None and np.shape(inputs["input_ids"])[1] == 1:
            logits, value = self._one_token
            self._binding.bind_ortvalue_output(LOGITS, value)
            _run_bound(self._native, self._binding)
            return logits
        self._binding.bind_output(LOGITS, self._device)
        _run_bound(self._native, self._binding)
        found = self._binding.get_outputs()[-1].numpy()
        self._keep_room(found)
        return np.asarray(found, np.float32)

    def _keep_room(self, logits: Tensor) -> None:
        """A step's logits have one place from now on: fetching them anew costs a page fault each.

        Their shape is told by those of other tokens.
        """
        if self._one_token is None and logits.dtype == np.float32:
            room = np.zeros((len(logits), 1, logits.shape[2]), np.float32)
            self._one_token = room, self._value(room)

    def _make_room(self, tokens: int) -> None:
        """Buffers at least double, so that a long text is copied a few times only.

        All are one block on huge pages. Each one's old pages go as soon as it is copied: a cache
        never takes more than its new room.
        """
        held = min(buffer.shape[2] for buffer in self._buffers)
        if tokens <= held:
            return
        room = -max(tokens, 2 * held) // _CAPACITY_STEP * -_CAPACITY_STEP
        shapes = [(*buffer.shape[:2], room, buffer.shape[3]) for buffer in self._buffers]
        sizes = [math.prod(shape) for shape in shapes]
        block = pages(sum(sizes), self._buffers[0].dtype)
        ask_for_huge_pages(block.ctypes.data, block.nbytes)
        parts = np.split(block, np.cumsum(sizes)[:-1])
        for at, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
            self._move(at, part.reshape(shape))

    def _move(self, at: int, larger: Tensor) -> None:
        """Put what one buffer holds into a larger one."""
        buffer, (past, present) = self._buffers[at], self._names[at]
        larger[:, :, : buffer.shape[2]] = buffer
        value = self._value(larger)
        self._binding.bind_ortvalue_input(past, value)
        self._binding.bind_ortvalue_output(present, value)
        self._buffers[at] = larger
        let_go(buffer)

    def _value(self, array: Tensor) -> Any:
        return _value(array, self._device)


class _TurnedSteps:
    """ONNX Runtime on the processor, behind an encoder: one block is read, the next is written.

    Every layer keeps each token, so a step's shapes are known before it. Tensors that the engine
    makes larger with each step leave holes between them that no later one fits: as much again.
    """

    def __init__(self, native: Any, cache: Cache) -> None:
        self._native, self._past, self._present = native, cache.past, cache.present
        self._shapes = [array.shape for array in cache.empty]
        sizes = [rows * heads * width for rows, heads, _, width in self._shapes]
        self._begins = [0, *itertools.accumulate(sizes)]
        self._seen, self._room = 0, 0
        nothing = np.zeros(0, cache.empty[0].dtype)
        self._read, self._written = nothing, nothing
        self._binding = native.io_binding()
        for name, array in cache.held.items():
            self._binding.bind_cpu_input(name, array)
        self._read_from([_value(array, "cpu") for array in cache.empty])

    def run(self, inputs: Mapping[str, Tensor]) -> Floats:
        seen = self._seen + np.shape(inputs["input_ids"])[1]
        written = self._next(seen)
        for name, array in inputs.items():
            self._binding.bind_cpu_input(name, array)
        for name, value in zip(self._present, written, strict=True):
            self._binding.bind_ortvalue_output(name, value)
        self._binding.bind_output(LOGITS, "cpu")
        _run_bound(self._native, self._binding)
        self._seen = seen
        self._read_from(written)
        self._read, self._written = self._written, self._read
        return np.asarray(self._binding.get_outputs()[-1].numpy(), np.float32)

    def _read_from(self, values: Sequence[Any]) -> None:
        for name, value in zip(self._past, values, strict=True):
            self._binding.bind_ortvalue_input(name, value)

    def _next(self, tokens: int) -> list[Any]:
        """Return where a step of so many tokens is written, in a block that is new where it ends.

        Nothing is copied: the step writes all.
        """
        if tokens > self._room:
            self._room = -max(tokens, 2 * self._room) // _CAPACITY_STEP * -_CAPACITY_STEP
        if len(self._written) < self._begins[-1] * self._room:
            self._written = pages(self._begins[-1] * self._room, self._written.dtype)
        places = [
            self._written[begin * self._room :][: (end - begin) * tokens]
            for begin, end in itertools.pairwise(self._begins)
        ]
        return [
            _value(place.reshape(rows, heads, tokens, width), "cpu")
            for place, (rows, heads, _, width) in zip(places, self._shapes, strict=True)
        ]


class _ArraySteps:
    """Any other engine: the cache is numpy arrays between two runs."""

    def __init__(self, engine: EngineSession, cache: Cache) -> None:
        self._engine = engine
        self._past, self._outputs = cache.past, [LOGITS, *cache.present]
        self._cache, self._held = list(cache.empty), cache.held

    def run(self, inputs: Mapping[str, Tensor]) -> Floats:
        past = dict(zip(self._past, self._cache, strict=True))
        given = {**inputs, **self._held, **past}
        logits, *self._cache = self._engine.run_prepared(given, self._outputs)
        return np.asarray(logits, np.float32)


def _shares_cache(native: Any) -> bool:
    return SHARED_CACHE in native.get_modelmeta().custom_metadata_map


def _value(array: Tensor, device: str) -> Any:
    """An array as the engine takes it; on the processor it is the array's own memory."""
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(array, device, 0)


def _run_bound(native: Any, binding: Any) -> None:
    try:
        native.run_with_iobinding(binding)
    except Exception as error:
        raise EngineError(
            "ONNX Runtime failed while generating", why=str(error).strip()[:500]
        ) from error


def _nothing(shape: Sequence[int | str | None], dtype: str, rows: int) -> Tensor:
    heads, width = shape[1], shape[3]
    if dtype not in _DTYPES or not isinstance(heads, int) or not isinstance(width, int):
        raise UnsupportedError("The cache of this graph has no fixed heads", why=f"{dtype} {shape}")
    nothing = np.zeros((rows, heads, 0, width), np.float32)
    return nothing.astype(_DTYPES[dtype])
