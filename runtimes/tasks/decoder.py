"""A decoder's graph and the sequences on their way through it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError
from edgeward.runtimes.engines.base import EngineSession, Tensor

from .cache_steps import LOGITS, Cache, Steps, empty_inputs, native_of, open_steps
from .slots import SlottedDecoder, slots_of

Floats = NDArray[np.float32]
PREFILL_TOKENS = 256
# How many of the last tokens get logits, 0 for all; transformers.js knows the name.
KEPT_LOGITS = "num_logits_to_keep"
_TEXT_INPUTS = ("input_ids", "attention_mask", "position_ids")
_PAST = re.compile(r"^past_key_values\.(\d+)\.(key|value)$")
_LARGEST_AXIS = 1 << 20


class DecodingState(Protocol):
    """One sequence, or a batch of them, on its way through a decoder."""

    def next_logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens and return the logits after the last, (vocabulary,)."""

    def logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens and return the logits after each, (sequence, vocabulary)."""

    def step(self, ids: Tensor, mask: Tensor, kept: int = 0) -> Floats:
        """Add tokens (rows, new) to every row: logits (rows, new or `kept`, vocabulary)."""


class Decoder(Protocol):
    """What continues sequences of tokens."""

    @property
    def batched(self) -> bool:
        """Whether it takes several rows at once."""

    def start(self, rows: int = 1) -> DecodingState:
        """Return a state that has seen nothing, for a batch of `rows`."""


def open_decoder(engine: EngineSession, config: Mapping[str, Any]) -> Decoder:
    """Return an engine that decodes by itself as it is, else its graph with a cache around it.

    Raises UnsupportedError where the graph is no decoder.
    """
    if hasattr(engine, "start"):
        return cast(Decoder, engine)
    slots = slots_of(engine)
    if slots is not None:
        return SlottedDecoder(slots)
    return DecoderGraph(engine, config)


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
        native = native_of(self._engine)
        listed = native.get_inputs() if native is not None else ()
        return any(item.name == "input_ids" and isinstance(item.shape[0], str) for item in listed)

    def start(self, rows: int = 1) -> DecoderState:
        """Return a state that has seen nothing, for a batch of `rows`."""
        native = native_of(self._engine)
        if native is not None:
            empty = empty_inputs(native, self.past, rows)
        else:
            empty = [np.repeat(_empty(self._config), rows, axis=0)] * len(self.past)
        steps = open_steps(self._engine, Cache(self.past, self.present, empty))
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
