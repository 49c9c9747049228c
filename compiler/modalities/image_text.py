"""Pictures beside texts that may describe them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeward.compiler.given_data import Line
from edgeward.compiler.reference_model import load_tokenizer
from edgeward.compiler.tasks import TaskSpec
from edgeward.compiler.texts import joined

from .base import Axes, Given, Sizes
from .image import Image

_SAMPLE = ["a photo of a gate", "two people waiting at the platform"]
_TEXTS = 3


class ImageText(Image):
    """One picture and a few texts a case; the texts are padded to the length the model wants."""

    def __init__(self, spec: TaskSpec, folder: Path, model: Any) -> None:
        super().__init__(spec, folder, model)
        self._tokenizer = load_tokenizer(folder)
        config = model.config.text_config
        self._limit = int(config.max_position_embeddings)
        self._to_the_end = model.config.model_type.startswith("siglip")
        self._names = ["input_ids"] if self._to_the_end else ["input_ids", "attention_mask"]

    def traced(self) -> dict[str, Any]:
        """Return two pictures and two texts."""
        return {**self._encode(_SAMPLE), **super().traced()}

    def axes(self) -> Axes:
        """Return both batches, and the texts' length where it may vary."""
        text = {0: "texts"} if self._to_the_end else {0: "texts", 1: "sequence"}
        return {**dict.fromkeys(self._names, text), "pixel_values": {0: "images"}}

    def fit(self, sizes: Sizes) -> None:
        """Make no text longer than the longest `sequence`."""
        self._limit = min(self._limit, max(sizes.get("sequence", ()), default=self._limit))

    def golden(self, texts: dict[str, str]) -> list[Given]:
        """Return each picture beside hard texts."""
        lines = [text for text in texts.values() if text.strip()]
        return self._beside(super().golden({}), lines)

    def evaluation(self, texts: Sequence[Line]) -> list[Given]:
        """Return each picture beside evaluation texts."""
        return self._beside(super().evaluation([]), joined(texts))

    def calibration(self, texts: Sequence[Line]) -> list[Given]:
        """Return other pictures beside calibration texts."""
        return self._beside(super().calibration([]), joined(texts))

    def from_file(self, name: str, content: bytes) -> Given | None:
        """Return a picture's case, beside two texts."""
        picture = super().from_file(name, content)
        return None if picture is None else self._beside([picture], _SAMPLE)[0]

    def untraced(self, seed: int) -> list[Given]:
        """Return other numbers of pictures and of texts."""
        return self._beside(super().untraced(seed), _SAMPLE[:1])

    def _beside(self, pictures: list[Given], lines: Sequence[str]) -> list[Given]:
        cases = []
        for number, picture in enumerate(pictures):
            texts = [lines[(number + n) % len(lines)] for n in range(min(_TEXTS, len(lines)))]
            cases.append(Given(picture.name, {**self._encode(texts), **picture.tensors}))
        return cases

    def _encode(self, texts: Sequence[str]) -> dict[str, Any]:
        encoded = self._tokenizer(
            list(texts),
            padding="max_length" if self._to_the_end else True,
            truncation=True,
            max_length=self._limit,
            return_tensors="pt",
        )
        return {name: encoded[name] for name in self._names}
