"""Texts to vectors: tokenise, run, pool, normalise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.engines.base import EngineSession, Tensor
from edgeward.runtimes.engines.bucketed import longest_sequence

from .pooling import Pipeline, read_json, read_pipeline
from .tokens import Encoded, TextTokenizer

HIDDEN_STATES = "last_hidden_state"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Embedder:
    """Embeds batches with one engine session and the model's own files."""

    def __init__(self, folder: Path, engine: EngineSession) -> None:
        self.pipeline: Pipeline = read_pipeline(folder)
        self.tokenizer = TextTokenizer(folder, self.pipeline.max_tokens, longest_sequence(engine))
        self._engine = engine
        self._wanted = tuple(engine.inputs)
        known = HIDDEN_STATES in engine.outputs
        self._outputs = (HIDDEN_STATES if known else engine.outputs[0],)
        self._width = _hidden_size(folder)
        unknown = set(self._wanted) - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown:
            raise UnsupportedError(
                "This model takes inputs that texts do not give", why=", ".join(sorted(unknown))
            )

    @property
    def dimensions(self) -> int:
        """The length of a vector; found by embedding an empty text where no file tells."""
        if self._width is None or self.pipeline.steps or len(self.pipeline.modes) > 1:
            return int(self.embed_batch([""])[0].shape[1])
        return self._width

    def prepare(self, texts: Sequence[str], prompt: str | None = None) -> list[str]:
        """Return the texts as the tokenizer gets them."""
        return prepare_texts(self.pipeline, texts, prompt)

    def embed_batch(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        """Embed prepared texts as one padded batch: (texts, dimensions) float32, tokens used."""
        encoded = self.tokenizer(texts)
        (output,) = self._engine.run_prepared(self._inputs(encoded), self._outputs)
        hidden = np.asarray(output, np.float32)
        if hidden.ndim != 3 or hidden.shape[:2] != encoded.mask.shape:
            raise UnsupportedError(
                f"The output {self._outputs[0]} is not one vector a token",
                why=f"its shape is {hidden.shape}, the tokens' is {encoded.mask.shape}",
            )
        return self.pipeline(hidden, encoded.mask), encoded.tokens

    def _inputs(self, encoded: Encoded) -> dict[str, Tensor]:
        given: dict[str, Tensor] = {
            "input_ids": encoded.ids,
            "attention_mask": encoded.mask,
            "token_type_ids": encoded.types,
        }
        return {name: given[name] for name in self._wanted}


def prepare_texts(pipeline: Pipeline, texts: Sequence[str], prompt: str | None = None) -> list[str]:
    """Put the prompt before each text and strip it, as sentence-transformers does.

    Raises UsageError where a prompt or a text is not one.
    """
    given = check_texts(texts)
    prefix = _prefix(pipeline, prompt)
    prepared = [(prefix + text).strip() for text in given]
    return [text.lower() for text in prepared] if pipeline.lower_case else prepared


def check_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts as a list; UsageError where one is not a text."""
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise UsageError("A list of texts is wanted", why=f"got {type(texts).__name__}")
    given = list(texts)
    for number, text in enumerate(given):
        if not isinstance(text, str):
            raise UsageError(f"Text {number} is not a text", why=f"got {type(text).__name__}")
        if not text.isascii() and _LONE_SURROGATE.search(text):
            raise UsageError(f"Text {number} is not Unicode", why="it has half a surrogate pair")
    return given


def _prefix(pipeline: Pipeline, prompt: str | None) -> str:
    prompts = pipeline.prompts or {}
    name = prompt if prompt is not None else pipeline.default_prompt
    if name is None:
        return ""
    if not isinstance(name, str) or name not in prompts:
        known = ", ".join(sorted(prompts)) or "none"
        raise UsageError(f"The model has no prompt {name!r}", why=f"known: {known}")
    return prompts[name]


def _hidden_size(folder: Path) -> int | None:
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else {}
    size = config.get("hidden_size") if isinstance(config, dict) else None
    return size if isinstance(size, int) and size > 0 else None
