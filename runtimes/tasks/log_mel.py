"""Log-mel frames as Whisper hears them, from the model's own preprocessor_config.json.

Radford et al. 2022, arXiv:2212.04356; filters as librosa's `mel` (Slaney's scale and norm).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UnsupportedError

from .generation import read_settings

Floats = NDArray[np.float32]
_HIGHEST = 8000.0
_FLOOR, _RANGE = 1e-10, 8.0
_LINEAR_HZ, _BREAK_HZ = 200.0 / 3, 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


@dataclass(frozen=True, slots=True)
class MelSettings:
    """Sizes in samples; a window of `seconds` is what the model hears at once."""

    bins: int = 80
    rate: int = 16_000
    window: int = 400
    hop: int = 160
    seconds: int = 30

    @property
    def samples(self) -> int:
        """How many samples one window has."""
        return self.seconds * self.rate


class LogMel:
    """Turns samples into frames."""

    def __init__(self, settings: MelSettings) -> None:
        self.settings = settings
        self._filters = mel_filters(settings)
        self._hann = np.hanning(settings.window + 1)[:-1].astype(np.float32)

    def __call__(self, samples: Floats) -> Floats:
        """Return frames (1, bins, frames) of samples cut or padded with silence to one window."""
        size, hop = self.settings.window, self.settings.hop
        whole = np.zeros(self.settings.samples, np.float32)
        kept = samples[: len(whole)]
        whole[: len(kept)] = kept
        padded = np.pad(whole, size // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:-1]
        power = np.abs(np.fft.rfft(frames * self._hann, axis=1)).astype(np.float32) ** 2
        mel = np.log10(np.maximum(self._filters.T @ power.T, np.float32(_FLOOR)))
        bounded = np.maximum(mel, mel.max() - _RANGE)
        frames_of_one: Floats = ((bounded + 4.0) / 4.0).astype(np.float32)[None]
        return frames_of_one


def mel_settings(folder: Path) -> MelSettings:
    """Read a model's settings; UnsupportedError where they are not those of log-mel frames."""
    stated = read_settings(folder / "preprocessor_config.json")
    names = ("feature_size", "sampling_rate", "n_fft", "hop_length", "chunk_length")
    given = [stated.get(name, default) for name, default in zip(names, _DEFAULTS, strict=True)]
    limits = (1024, 768_000, 65_536, 65_536, 3600)
    for name, value, limit in zip(names, given, limits, strict=True):
        if type(value) is not int or not 0 < value <= limit:
            raise UnsupportedError(
                "The model's preprocessor_config.json is not one for log-mel frames",
                why=f"{name} is {value!r}",
            )
    return MelSettings(*given)


def mel_filters(settings: MelSettings) -> Floats:
    """Return triangular filters, (window // 2 + 1, bins), each of unit area in hertz."""
    centres = np.linspace(0, settings.rate / 2, settings.window // 2 + 1)
    edges = _hertz(np.linspace(0, _mel(_HIGHEST), settings.bins + 2))
    rising = (centres[:, None] - edges[None, :-2]) / np.diff(edges)[None, :-1]
    falling = (edges[None, 2:] - centres[:, None]) / np.diff(edges)[None, 1:]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return (filters * (2.0 / (edges[2:] - edges[:-2]))).astype(np.float32)


def _mel(hertz: float) -> float:
    return _BREAK_MEL + float(np.log(hertz / _BREAK_HZ)) / float(_LOG_STEP)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    curved = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel >= _BREAK_MEL, curved, _LINEAR_HZ * mel)


_DEFAULTS = (80, 16_000, 400, 160, 30)
