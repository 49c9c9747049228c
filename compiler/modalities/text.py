"""Texts, alone and in pairs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeward.compiler.given_data import Line
from edgeward.compiler.reference_model import load_tokenizer
from edgeward.compiler.tasks import TaskSpec
from edgeward.runtimes.tasks.tokens import token_limit

from .base import Axes, Given, Sizes

LONGEST = 512
_SAMPLE = ["A short text.", "A text that is a little longer than the first one."]
_QUESTION = "What does the notice say?"


class Text:
    """One text a case, through the model's own tokenizer."""

    def __init__(self, spec: TaskSpec, folder: Path, model: Any) -> None:
        self._tokenizer = load_tokenizer(folder)
        self._limit = token_limit(folder)
        self._vocabulary = int(model.config.get_text_config().vocab_size)
        taken = inspect.signature(model.forward).parameters
        self._names = [name for name in self._tokenizer.model_input_names if name in taken]
        self._mask_token = self._tokenizer.mask_token if spec.name == "fill-mask" else None

    def traced(self) -> dict[str, Any]:
        """Return a padded batch of two."""
        return self._encode([self._texts(text) for text in _SAMPLE])

    def axes(self) -> Axes:
        """Return batch and sequence."""
        return {name: {0: "batch", 1: "sequence"} for name in self._names}

    def fit(self, sizes: Sizes) -> None:
        """Make no text longer than the longest `sequence`."""
        longest = max(sizes.get("sequence", ()), default=None)
        self._limit = min((each for each in (self._limit, longest) if each), default=None)

    def golden(self, texts: dict[str, str]) -> list[Given]:
        """Return the packaged texts, the longest grown to the model's limit."""
        return [self._given(name, grown(text, self._limit)) for name, text in texts.items()]

    def evaluation(self, texts: Sequence[Line]) -> list[Given]:
        """Return one case a text."""
        return [self._given(f"text {number}", text) for number, text in enumerate(texts)]

    def calibration(self, texts: Sequence[Line]) -> list[Given]:
        """Return one case a text."""
        return self.evaluation(texts)

    def from_file(self, name: str, content: bytes) -> Given | None:
        """Return nothing: texts are not made of files."""
        del name, content
        return None

    @property
    def feeds(self) -> str:
        """Nothing."""
        return ""

    def untraced(self, seed: int) -> list[Given]:
        """Return random ids, the last row of a batch half padded."""
        shapes = untraced_shapes(self._limit)
        return [
            Given(f"{rows} x {length}", self._random(rows, length, seed + number))
            for number, (rows, length) in enumerate(shapes)
        ]

    def _texts(self, text: Line) -> tuple[str, ...]:
        if not isinstance(text, str):
            return tuple(text)
        if self._mask_token is None:
            return (text,)
        return (f"{self._mask_token} {text}".strip(),)

    def _given(self, name: str, text: Line) -> Given:
        texts = self._texts(text)
        return Given(name, self._encode([texts]), texts)

    def _encode(self, batch: Sequence[tuple[str, ...]]) -> dict[str, Any]:
        columns = [list(column) for column in zip(*batch, strict=True)]
        encoded = self._tokenizer(
            *columns,
            padding=True,
            truncation=self._limit is not None,
            max_length=self._limit,
            return_tensors="pt",
        )
        return {name: encoded[name] for name in self._names}

    def _random(self, rows: int, length: int, seed: int) -> dict[str, Any]:
        import torch

        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, self._vocabulary, (rows, length), generator=generator)
        mask = torch.ones_like(ids)
        if rows > 1 and length > 1:
            mask[-1, length // 2 :] = 0
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        return {name: given[name] for name in self._names}


class TextPair(Text):
    """A question and the text that answers it."""

    def _texts(self, text: Line) -> tuple[str, ...]:
        return (_QUESTION, text) if isinstance(text, str) else tuple(text)


def grown(text: str, limit: int | None) -> str:
    """Repeat a text marked with a trailing `...` until it is longer than the model takes."""
    if not text.endswith("..."):
        return text
    return (text[:-3] + " ") * (1 + (limit or LONGEST) // max(len(text.split()) - 1, 1))


def untraced_shapes(limit: int | None) -> tuple[tuple[int, int], ...]:
    """Return (batch, sequence) of what is proved beside the traced shape."""
    longest = min(limit or LONGEST, LONGEST)
    shapes = ((1, 1), (1, 5), (3, 17), (5, 3), (2, longest))
    return tuple((rows, min(length, longest)) for rows, length in shapes)
