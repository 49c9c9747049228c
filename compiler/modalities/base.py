"""What a modality gives the export and the proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgeward.compiler.given_data import Line
from edgeward.compiler.tasks import TaskSpec

Axes = dict[str, dict[int, str]]
Sizes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Given:
    """One case's inputs: torch tensors by the model's names, and the texts they were made of."""

    name: str
    tensors: dict[str, Any]
    texts: tuple[str, ...] = ()


class Modality(Protocol):
    """Makes inputs for one model."""

    def traced(self) -> dict[str, Any]:
        """Return what the model is traced with, a batch of two."""

    def axes(self) -> Axes:
        """Return the dynamic axes of each input by the names that people expect to read."""

    def fit(self, sizes: Sizes) -> None:
        """Make every case fit graphs of fixed shapes; empty where they are dynamic."""

    def golden(self, texts: dict[str, str]) -> list[Given]:
        """Return the hard cases; `texts` are the packaged ones by name."""

    def evaluation(self, texts: Sequence[Line]) -> list[Given]:
        """Return the evaluation cases."""

    def calibration(self, texts: Sequence[Line]) -> list[Given]:
        """Return what shows how large activations are, none of it among the evaluation cases."""

    def from_file(self, name: str, content: bytes) -> Given | None:
        """Return a case made of a file as the original's own preprocessing makes it.

        None where the model has none that fits the graph. Raises UsageError for another kind.
        """

    @property
    def feeds(self) -> str:
        """The input that a device makes of a file too, empty where it makes none."""

    def untraced(self, seed: int) -> list[Given]:
        """Return random inputs of shapes that were not traced."""


def open_modality(spec: TaskSpec, folder: Path, model: Any) -> Modality:
    """Return what makes inputs for this model."""
    import importlib

    module, kind = MODALITIES[spec.modality]
    opened: Modality = getattr(importlib.import_module(module), kind)(spec, folder, model)
    return opened


_HERE = "edgeward.compiler.modalities"
MODALITIES = {
    "text": (f"{_HERE}.text", "Text"),
    "text-pair": (f"{_HERE}.text", "TextPair"),
    "image": (f"{_HERE}.image", "Image"),
    "audio": (f"{_HERE}.audio", "Audio"),
    "image-text": (f"{_HERE}.image_text", "ImageText"),
}
