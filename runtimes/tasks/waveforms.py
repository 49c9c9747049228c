"""Waveforms as speech encoders are fed: at the model's rate, of mean 0 and variance 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeward.runtimes.engines.base import Tensor

from .generation import read_settings

Floats = NDArray[np.float32]
WAVE = "input_values"
_RATE = 16_000
_EPSILON = 1e-7


class Waveforms:
    """What one model's preprocessor_config.json says; Wav2Vec2's defaults where it says nothing."""

    def __init__(self, folder: Path) -> None:
        settings = read_settings(folder / "preprocessor_config.json")
        stated = settings.get("sampling_rate", _RATE)
        self.rate = stated if type(stated) is int and 1000 <= stated <= 768_000 else _RATE
        self.normalises = settings.get("do_normalize", True) is not False

    def __call__(self, samples: Floats) -> dict[str, Tensor]:
        """Return what the graph reads of samples (samples,) at the model's rate."""
        if self.normalises:
            samples = (samples - samples.mean()) / np.sqrt(samples.var() + np.float32(_EPSILON))
        return {WAVE: np.ascontiguousarray(samples[None], np.float32)}
