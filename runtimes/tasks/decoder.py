"""A decoder's graph and its cache of keys and values, kept where the engine computes.

In ONNX Runtime the cache never becomes a numpy array: what one step gives is bound to the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UnsupportedError
from edgeward.runtimes.engines.base import EngineSession, Tensor

Floats = NDArray[np.float32]
PREFILL_TOKENS = 256
LOGITS = "logits"
# How many of the last tokens get logits, 0 for all; transformers.js knows the name.
KEPT_LOGITS = "num_logits_to_keep"
# In a graph's metadata: one buffer may be past and present, longer than what it holds.
SHARED_CACHE = "edgeward.shared_cache"
_TEXT_INPUTS = ("input_ids", "attention_mask", "position_ids")
_PAST = re.compile(r"^past_key_values\.(\d+)\.(key|value)$")
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
_DEVICES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}
_LARGEST_AXIS = 1 << 20
_CAPACITY_STEP = 256


class Steps(Protocol):
    """Runs tokens after those that it has seen."""

    def run(self, inputs: Mapping[str, Tensor]) -> Floats:
        """Run the text inputs and keep the cache: logits (rows, sequence, vocabulary)."""


class DecoderGraph:
    """An engine session whose graph takes a past; UnsupportedError where it is no decoder."""

    def __init__(self, engine: EngineSession, config: Mapping[str, Any]) -> None:
        self._engine, self._config = engine, config
        self.past = [name for name in engine.inputs if _PAST.match(name)]
        self.present = [name.replace("past_key_values", "present", 1) for name in self.past]
        unknown = sorted(set(engine.inputs) - {*_TEXT_INPUTS, KEPT_LOGITS, *self.past})
        lacking = sorted({LOGITS, *self.present} - set(engine.outputs))
        if unknown or lacking or not self.past:
            raise UnsupportedError(
                "This graph is not a decoder with a cache",
                why=", ".join([f"unknown input {n}" for n in unknown])
                or ", ".join([f"no output {n}" for n in lacking])
                or "it takes no past_key_values",
            )
        self._wanted = [name for name in _TEXT_INPUTS if name in engine.inputs]

    @property
    def batched(self) -> bool:
        """Whether it takes several rows at once; one alone where the engine does not say."""
        native = getattr(self._engine, "native", None)
        listed = native.get_inputs() if native is not None else ()
        return any(item.name == "input_ids" and isinstance(item.shape[0], str) for item in listed)

    def start(self, rows: int = 1) -> DecoderState:
        """Return a state that has seen nothing, for a batch of `rows`."""
        native = getattr(self._engine, "native", None)
        steps: Steps
        if self._engine.ref.name == "onnxruntime" and native is not None:
            device = _DEVICES.get(self._engine.ref.provider or "", "cpu")
            kind = _SharedSteps if device == "cpu" and _shares_cache(native) else _BoundSteps
            steps = kind(native, self.past, self.present, device, rows)
        else:
            nothing = np.repeat(_empty(self._config), rows, axis=0)
            steps = _ArraySteps(self._engine, self.past, self.present, nothing)
        return DecoderState(steps, self._wanted, KEPT_LOGITS in self._engine.inputs)


class DecoderState:
    """One sequence, or a batch of them, on its way through the graph."""

    def __init__(self, steps: Steps, wanted: Sequence[str], keeps_logits: bool) -> None:
        self._steps, self._wanted, self._keeps_logits = steps, wanted, keeps_logits
        self._seen = 0

    def next_logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens and return the logits after the last, (vocabulary,)."""
        for start in range(0, len(ids), PREFILL_TOKENS):
            logits = self._run(ids[start : start + PREFILL_TOKENS], kept=1)
        return np.asarray(logits[-1])

    def logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens and return the logits after each, (sequence, vocabulary)."""
        starts = range(0, len(ids), PREFILL_TOKENS)
        return np.concatenate([self._run(ids[at : at + PREFILL_TOKENS]) for at in starts])

    def _run(self, ids: Sequence[int], kept: int = 0) -> Floats:
        mask = np.ones((1, self._seen + len(ids)), np.int64)
        return np.asarray(self.step(np.array([ids], np.int64), mask, kept)[0])

    def step(self, ids: Tensor, mask: Tensor, kept: int = 0) -> Floats:
        """Add tokens (rows, new) to every row: logits (rows, new, vocabulary).

        `mask` (rows, seen and new) is 0 where a row is padded, on its left. A graph that can gives
        the logits of the last `kept` tokens alone, where it is not 0.
        """
        positions = np.maximum(mask.astype(np.int64).cumsum(axis=1) - 1, 0)
        given: dict[str, Tensor] = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": np.ascontiguousarray(positions[:, -ids.shape[1] :]),
        }
        wanted = {name: given[name] for name in self._wanted}
        rows = ids.shape[1]
        if self._keeps_logits:
            wanted[KEPT_LOGITS] = np.array(kept, np.int64)
            rows = kept or rows
        logits = self._steps.run(wanted)
        if logits.ndim != 3 or logits.shape[:2] != (len(ids), rows):
            raise UnsupportedError(
                "The logits are not one row a token", why=f"their shape is {logits.shape}"
            )
        self._seen += ids.shape[1]
        return logits


class _BoundSteps:
    """ONNX Runtime: the cache goes from step to step as OrtValues on the engine's device."""

    def __init__(
        self, native: Any, past: Sequence[str], present: Sequence[str], device: str, rows: int
    ) -> None:
        from onnxruntime import OrtValue

        self._native, self._device = native, device
        self._past, self._present = past, present
        shapes = {item.name: (item.shape, item.type) for item in native.get_inputs()}
        self._cache = [
            OrtValue.ortvalue_from_numpy(_nothing(*shapes[name], rows), device, 0) for name in past
        ]

    def run(self, inputs: Mapping[str, Tensor]) -> Floats:
        binding = self._native.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        for name, value in zip(self._past, self._cache, strict=True):
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(LOGITS, "cpu")
        for name in self._present:
            binding.bind_output(name, self._device)
        _run_bound(self._native, binding)
        logits, *self._cache = binding.get_outputs()
        return np.asarray(logits.numpy(), np.float32)


class _SharedSteps:
    """ONNX Runtime on the processor: past and present are one buffer, which nothing copies."""

    def __init__(
        self, native: Any, past: Sequence[str], present: Sequence[str], device: str, rows: int
    ) -> None:
        self._native, self._device = native, device
        self._names = list(zip(past, present, strict=True))
        shapes = {item.name: (item.shape, item.type) for item in native.get_inputs()}
        self._buffers = [_nothing(*shapes[name], rows) for name in past]
        self._binding = native.io_binding()

    def run(self, inputs: Mapping[str, Tensor]) -> Floats:
        self._make_room(np.shape(inputs["attention_mask"])[1])
        for name, array in inputs.items():
            self._binding.bind_cpu_input(name, array)
        self._binding.bind_output(LOGITS, self._device)
        _run_bound(self._native, self._binding)
        return np.asarray(self._binding.get_outputs()[-1].numpy(), np.float32)

    def _make_room(self, tokens: int) -> None:
        """Buffers at least double, so that a long text is copied a few times only."""
        from onnxruntime import OrtValue

        held = self._buffers[0].shape[2]
        if tokens <= held:
            return
        room = -max(tokens, 2 * held) // _CAPACITY_STEP * -_CAPACITY_STEP
        grown = []
        for buffer, (past, present) in zip(self._buffers, self._names, strict=True):
            rows, heads, _, width = buffer.shape
            larger = np.zeros((rows, heads, room, width), buffer.dtype)
            larger[:, :, :held] = buffer
            value = OrtValue.ortvalue_from_numpy(larger, self._device, 0)
            self._binding.bind_ortvalue_input(past, value)
            self._binding.bind_ortvalue_output(present, value)
            grown.append(larger)
        self._buffers = grown


def _shares_cache(native: Any) -> bool:
    return SHARED_CACHE in native.get_modelmeta().custom_metadata_map


def _run_bound(native: Any, binding: Any) -> None:
    try:
        native.run_with_iobinding(binding)
    except Exception as error:
        raise EngineError(
            "ONNX Runtime failed while generating", why=str(error).strip()[:500]
        ) from error


class _ArraySteps:
    """Any other engine: the cache is numpy arrays between two runs."""

    def __init__(
        self, engine: EngineSession, past: Sequence[str], present: Sequence[str], empty: Floats
    ) -> None:
        self._engine = engine
        self._past, self._outputs = past, [LOGITS, *present]
        self._cache: list[Tensor] = [empty] * len(past)

    def run(self, inputs: Mapping[str, Tensor]) -> Floats:
        past = dict(zip(self._past, self._cache, strict=True))
        logits, *self._cache = self._engine.run_prepared({**inputs, **past}, self._outputs)
        return np.asarray(logits, np.float32)


def _nothing(shape: Sequence[int | str | None], dtype: str, rows: int) -> Tensor:
    heads, width = shape[1], shape[3]
    if dtype not in _DTYPES or not isinstance(heads, int) or not isinstance(width, int):
        raise UnsupportedError("The cache of this graph has no fixed heads", why=f"{dtype} {shape}")
    nothing = np.zeros((rows, heads, 0, width), np.float32)
    return nothing.astype(_DTYPES[dtype])


def _empty(config: Mapping[str, Any]) -> Floats:
    """A past of no tokens, of the shape that config.json tells."""
    heads = _first(config, "num_attention_heads", "n_head", "num_heads")
    kept = _first(config, "num_key_value_heads") or heads
    hidden = _first(config, "hidden_size", "n_embd")
    width = _first(config, "head_dim") or (hidden // heads if heads else 0)
    if not kept or not width:
        raise UnsupportedError(
            "The shape of the cache is not known", why="config.json names no heads or no width"
        )
    return np.zeros((1, kept, 0, width), np.float32)


def _first(config: Mapping[str, Any], *names: str) -> int:
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for name in names:
            value = part.get(name)
            if type(value) is int and 0 < value <= _LARGEST_AXIS:
                return value
    return 0
