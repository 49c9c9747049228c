"""Sound: waveforms, or the log-mel frames that some models take."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeward.compiler.given_data import Line
from edgeward.compiler.preprocessors import SoundExtractor
from edgeward.compiler.tasks import TaskSpec
from edgeward.runtimes.tasks.waveforms import WAVE

from .base import Axes, Given, Sizes

_RATE = 16_000
_SECONDS = (0.5, 1.0, 1.7)
_EVALUATED = 8
_CALIBRATED = 16


class Audio:
    """`input_values` (batch, samples) of speech encoders, or their frames (batch, time, bins)."""

    def __init__(self, spec: TaskSpec, folder: Path, model: Any) -> None:
        del spec
        config = model.config
        taken = inspect.signature(model.forward).parameters
        self._name = "input_features" if "input_features" in taken else "input_values"
        spectrogram = hasattr(config, "frequency_stride")
        self._frames = (int(config.max_length), int(config.num_mel_bins)) if spectrogram else None
        self._lengths: tuple[int, ...] = ()
        self._extractor = SoundExtractor(folder, self._name, self._frames)

    def traced(self) -> dict[str, Any]:
        """Return two sounds of one length."""
        return {self._name: self._sounds(2, 1.0, 0)}

    def axes(self) -> Axes:
        """Return the batch, and the samples of a waveform."""
        if self._frames:
            return {self._name: {0: "batch"}}
        return {self._name: {0: "batch", 1: "samples"}}

    def fit(self, sizes: Sizes) -> None:
        """Make sounds of exactly the lengths `samples`: a waveform has no mask to pad it behind."""
        self._lengths = tuple(sizes.get("samples", ()))

    def golden(self, texts: dict[str, str]) -> list[Given]:
        """Return sounds of several lengths, and silence."""
        import torch

        del texts
        cases = [
            Given(f"{seconds} s", {self._name: self._sounds(1, seconds, number)})
            for number, seconds in enumerate(self._lasting(_SECONDS))
        ]
        return [
            *cases,
            Given("silence", {self._name: torch.zeros_like(cases[0].tensors[self._name])}),
        ]

    def evaluation(self, texts: Sequence[Line]) -> list[Given]:
        """Return seeded sounds."""
        del texts
        return self._seeded(100, _EVALUATED)

    def calibration(self, texts: Sequence[Line]) -> list[Given]:
        """Return other seeded sounds."""
        del texts
        return self._seeded(500, _CALIBRATED)

    def _seeded(self, seed: int, number: int) -> list[Given]:
        lasting = self._lasting((1.0,))
        return [
            Given(f"sound {n}", {self._name: self._sounds(1, lasting[n % len(lasting)], seed + n)})
            for n in range(number)
        ]

    def _lasting(self, usual: Sequence[float]) -> list[float]:
        """Return the usual seconds, or those of the lengths that fit."""
        return [length / _RATE for length in self._lengths] or list(usual)

    def from_file(self, name: str, content: bytes) -> Given | None:
        """Return a sound's case; none where a graph takes sounds of fixed lengths alone."""
        heard = None if self._lengths else self._extractor(content)
        return None if heard is None else Given(name, {self._name: heard})

    @property
    def feeds(self) -> str:
        """The waveform; frames are made on no device yet."""
        return WAVE if self._name == WAVE and not self._frames else ""

    def untraced(self, seed: int) -> list[Given]:
        """Return other batches and other lengths."""
        fixed = [(rows, length / _RATE) for length in self._lengths for rows in (1, 3)]
        return [
            Given(f"{rows} x {seconds} s", {self._name: self._sounds(rows, seconds, seed + rows)})
            for rows, seconds in fixed or ((1, 0.4), (3, 1.3), (1, 3.0))
        ]

    def _sounds(self, rows: int, seconds: float, seed: int) -> Any:
        import torch

        generator = torch.Generator().manual_seed(seed)
        if self._frames:
            return torch.randn((rows, *self._frames), generator=generator)
        return voices(rows, seconds, generator)


def voices(rows: int, seconds: float, generator: Any) -> Any:
    """Vowel-like sums of harmonics that swell and fade, with a little noise; unit variance."""
    import torch

    count = round(seconds * _RATE)
    clock = torch.arange(count) / _RATE
    pitch = 90 + 160 * torch.rand((rows, 1, 1), generator=generator)
    harmonics = torch.arange(1, 13)[None, :, None]
    loudness = torch.rand((rows, 12, 1), generator=generator)
    wave = (loudness * torch.sin(2 * torch.pi * pitch * harmonics * clock)).sum(1)
    wave = wave * (0.2 + torch.sin(2 * torch.pi * 3 * clock) ** 2)
    wave = wave + 0.05 * torch.randn((rows, count), generator=generator)
    return (wave - wave.mean(1, keepdim=True)) / wave.std(1, keepdim=True)
