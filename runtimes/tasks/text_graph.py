"""A graph that reads texts: tokenise, run, give back logits beside the tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UnsupportedError, UsageError
from edgeward.runtimes.engines.base import EngineSession, Tensor
from edgeward.runtimes.engines.bucketed import longest_sequence

from .embedding import check_texts
from .tokens import TextTokenizer

Text = str | tuple[str, str]
_FROM_TEXTS = ("input_ids", "attention_mask", "token_type_ids")


class Read(NamedTuple):
    """Outputs of one padded batch, float32 in the order asked for, and the tokenizer's findings."""

    outputs: tuple[NDArray[np.float32], ...]
    encodings: list[Any]

    @property
    def tokens(self) -> int:
        """How many tokens are not padding."""
        return sum(sum(encoding.attention_mask) for encoding in self.encodings)


class TextGraph:
    """Runs texts, or pairs of them, through one engine session."""

    def __init__(self, folder: Path, engine: EngineSession, outputs: Sequence[str]) -> None:
        self.tokenizer = TextTokenizer(folder, longest_sequence(engine))
        self._engine = engine
        self._outputs = tuple(outputs)
        unknown = sorted(set(engine.inputs) - set(_FROM_TEXTS))
        lacking = sorted(set(outputs) - set(engine.outputs))
        if unknown or lacking:
            raise UnsupportedError(
                "This graph is not one that reads texts for its task",
                why=", ".join(f"unknown input {n}" for n in unknown)
                or ", ".join(f"no output {n}" for n in lacking),
            )

    def __call__(self, texts: Sequence[Text]) -> Read:
        """Run one batch of at least one text or pair."""
        encodings = self.tokenizer.encodings(texts)
        given: dict[str, Tensor] = {
            "input_ids": np.array([e.ids for e in encodings], np.int64),
            "attention_mask": np.array([e.attention_mask for e in encodings], np.int64),
            "token_type_ids": np.array([e.type_ids for e in encodings], np.int64),
        }
        inputs = {name: given[name] for name in self._engine.inputs}
        found = self._engine.run_prepared(inputs, self._outputs)
        outputs = tuple(np.asarray(value, np.float32) for value in found)
        if not all(np.isfinite(value).all() for value in outputs):
            raise EngineError("The model gave scores that are not finite")
        return Read(outputs, encodings)


def check_items(items: Sequence[Text], what: str) -> list[Text]:
    """Return texts and pairs as given; UsageError where one is neither."""
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise UsageError(f"{what} takes a list of texts", why=f"got {type(items).__name__}")
    given = list(items)
    for item in given:
        if isinstance(item, tuple) and len(item) != 2:
            raise UsageError(f"A pair is two texts, not {len(item)}")
        check_texts(list(item) if isinstance(item, tuple) else [item])
    return given
