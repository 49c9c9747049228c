"""Texts to texts: an encoder reads, a decoder writes; translation, summaries, questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeward.errors import UsageError
from edgeward.runtimes.engines.base import EngineSession, Tensor

from .chat import Message
from .generation import read_settings
from .sampling import Sampler, Sampling
from .sequences import SequenceGraph
from .streaming import (
    DEFAULT_MAX_TOKENS,
    Piece,
    TextStream,
    checked_max_tokens,
    checked_stops,
    picked_tokens,
    pieces,
)
from .tokens import TextTokenizer
from .writing_rules import WritingRules, read_rules


class TextToText:
    """Writes what belongs to a text with one engine session; threads may share it."""

    def __init__(self, folder: Path, engine: EngineSession) -> None:
        self.tokenizer = TextTokenizer(folder, reading_limit(folder))
        self.graph = SequenceGraph(engine)
        self._rules = read_rules(folder)

    def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> Iterator[Piece]:
        """Write what belongs to a text: one Piece a token.

        The text is cut to what the model reads. Raises UsageError at once where the request is
        wrong or messages of a chat are given.
        """
        sampler = Sampler(Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed))
        text = TextStream(self.tokenizer.native, checked_stops(stop))
        most = checked_max_tokens(max_tokens)
        target, rules = self.graph.read(self.inputs(prompt)), self._rules
        picked = picked_tokens(target, rules.prefix, rules.picker(sampler))
        return pieces(picked, rules.ends, most, text)

    def inputs(self, prompt: str | Sequence[Message]) -> dict[str, Tensor]:
        """Return what the encoder reads, one row."""
        if not isinstance(prompt, str):
            raise UsageError("This model reads a text", why="it knows no chat of messages")
        encoded = self.tokenizer([prompt])
        if not encoded.tokens:
            raise UsageError("The text has no tokens")
        return {"input_ids": encoded.ids, "attention_mask": encoded.mask}

    def rules(self, inputs: Mapping[str, Tensor]) -> WritingRules:
        """Return the rules, which are the same whatever is read."""
        del inputs
        return self._rules

    def continued(
        self, inputs: Mapping[str, Tensor], rules: WritingRules, tokens: int
    ) -> list[int]:
        """Return the likeliest tokens behind the rules' prefix, an end among them."""
        return self.graph.written(inputs, rules, tokens)


def reading_limit(folder: Path) -> int | None:
    """Return how many tokens the encoder reads, None where its own file names no limit of it."""
    config = read_settings(folder / "config.json")
    stated = config.get("max_encoder_position_embeddings") or config.get("max_source_positions")
    return stated if type(stated) is int and 0 < stated <= np.iinfo(np.int32).max else None
