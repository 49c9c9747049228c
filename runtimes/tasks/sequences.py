"""An encoder and a decoder with a cache: what is read once, what is written token by token.

The encoder's graph gives the keys and values that the decoder's layers look back at, so they are
computed once; the decoder's graph takes them as `past_key_values.N.encoder.key`/`.value`, and its
own past as `past_key_values.N.decoder.key`/`.value`, as optimum's `decoder_with_past_model` does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError
from edgeward.runtimes.engines.base import EngineSession, Tensor

from .cache_steps import LOGITS, Cache, Steps, open_steps
from .sampling import Sampler, Sampling
from .slots import SlottedRows, SlottedState, slots_of
from .streaming import Running, picked_tokens
from .writing_rules import WritingRules

Floats = NDArray[np.float32]
ENCODER = "encoder"
SOURCE_MASK = "encoder_attention_mask"
_STATES = re.compile(r"^past_key_values\.\d+\.(decoder|encoder)\.(?:key|value)$")


class SequenceGraph:
    """A decoder's session whose part `encoder` reads; UnsupportedError where they do not fit."""

    def __init__(self, engine: EngineSession) -> None:
        self._engine, self._slots = engine, slots_of(engine)
        encoder = engine.parts.get(ENCODER)
        if self._slots is not None and encoder is not None:
            self.encoder, self._masked = encoder, "attention_mask" in encoder.inputs
            return
        found = {name: _STATES.match(name) for name in engine.inputs}
        self._past = [name for name, match in found.items() if match and match[1] == "decoder"]
        self._crossed = [name for name, match in found.items() if match and match[1] == "encoder"]
        self._masked = SOURCE_MASK in engine.inputs
        unknown = sorted({name for name, match in found.items() if not match} - _TOKENS)
        given = set(encoder.outputs) if encoder else set()
        lacking = sorted({_present(name) for name in self._crossed} - given)
        lacking += sorted({LOGITS, *map(_present, self._past)} - set(engine.outputs))
        if encoder is None or unknown or lacking or not self._past or not self._crossed:
            raise UnsupportedError(
                "These graphs are not an encoder and a decoder with a cache",
                why=", ".join([f"unknown input {n}" for n in unknown])
                or ", ".join([f"no output {n}" for n in lacking])
                or "the encoder or the past is missing",
            )
        self.encoder = encoder

    def read(self, inputs: Mapping[str, Tensor]) -> Target | SlottedState:
        """Run the encoder on its own inputs (rows first); return what is written behind them."""
        if self._slots is not None:
            return SlottedState(self._slots, self._read_once(inputs))
        cache = self.begun(inputs)
        return Target(open_steps(self._engine, cache))

    def read_rows(self, inputs: Mapping[str, Tensor]) -> Target | SlottedRows:
        """Do what `read` does for several rows, whatever the engine takes at once."""
        if self._slots is None:
            return Target(open_steps(self._engine, self.begun(inputs)))
        rows = range(len(inputs[self.encoder.inputs[0]]))
        apart = [{name: value[row : row + 1] for name, value in inputs.items()} for row in rows]
        return SlottedRows([SlottedState(self._slots, self._read_once(one)) for one in apart])

    def begun(self, inputs: Mapping[str, Tensor]) -> Cache:
        """Run the encoder and return what the decoder is given beside its first tokens."""
        if self._slots is not None:
            raise UnsupportedError("This decoder's cache is its engine's own")
        given = {name: inputs[name] for name in self.encoder.inputs}
        states = self.encoder.run_prepared(given, [_present(name) for name in self._crossed])
        held = dict(zip(self._crossed, states, strict=True))
        if self._masked:
            held[SOURCE_MASK] = inputs["attention_mask"]
        # A layer's own keys have the shape of those that it looks back at, and no length yet.
        empty = [np.ascontiguousarray(states[0][:, :, :0])] * len(self._past)
        return Cache(self._past, [_present(name) for name in self._past], empty, held)

    def _read_once(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given = {name: inputs[name] for name in self.encoder.inputs}
        if len(next(iter(given.values()))) != 1:
            raise UnsupportedError("A cache of slots holds one text")
        outputs = list(self.encoder.outputs)
        states = self.encoder.run_prepared(given, outputs)
        held = dict(zip(outputs, states, strict=True))
        return held | ({SOURCE_MASK: inputs["attention_mask"]} if self._masked else {})

    def written(self, inputs: Mapping[str, Tensor], rules: WritingRules, tokens: int) -> list[int]:
        """Return up to `tokens` likeliest tokens behind the rules' prefix, an end the last."""
        return likeliest(self.read(inputs), rules, tokens)


class Target:
    """One sequence, or a batch of them, that is being written."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def step(self, ids: Tensor) -> Floats:
        """Add tokens (rows, new) to every row: logits (rows, new, vocabulary)."""
        logits = self._steps.run({"input_ids": ids})
        if logits.ndim != 3 or logits.shape[:2] != ids.shape:
            raise UnsupportedError(
                "The logits are not one row a token", why=f"their shape is {logits.shape}"
            )
        return logits

    def logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens to the only row: the logits after each, (sequence, vocabulary)."""
        return np.asarray(self.step(np.array([ids], np.int64))[0])

    def next_logits(self, ids: Sequence[int]) -> Floats:
        """Add tokens to the only row: the logits after the last, (vocabulary,)."""
        return np.asarray(self.logits(ids)[-1])


def likeliest(state: Running, rules: WritingRules, tokens: int) -> list[int]:
    """Return up to `tokens` likeliest tokens behind the rules' prefix, an end the last of them."""
    picked = picked_tokens(state, rules.prefix, rules.picker(Sampler(Sampling())))
    found: list[int] = []
    for token in itertools.islice(picked, tokens):
        found.append(token)
        if token in rules.ends:
            break
    return found


_TOKENS = {"input_ids", SOURCE_MASK}


def _present(past: str) -> str:
    return past.replace("past_key_values", "present", 1)
