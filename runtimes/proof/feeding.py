"""Files as a device reads them: a picture's or a sound's bytes to what the graph is fed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeward.errors import UnsupportedError
from edgeward.runtimes.engines.base import EngineSession, Tensor
from edgeward.runtimes.tasks.pictures import PIXELS, Pictures
from edgeward.runtimes.tasks.sound import parse_wav, resample
from edgeward.runtimes.tasks.waveforms import WAVE, Waveforms

Feeder = Callable[[bytes], Tensor]
DIFFERENCES = {PIXELS: "pixels_difference", WAVE: "features_difference"}


def open_feeder(feeds: str, folder: Path, engine: EngineSession) -> Feeder:
    """Return what makes the input `feeds` of a file, by the settings that lie in `folder`."""
    if feeds == PIXELS:
        pictures = Pictures(folder, engine)
        return lambda content: pictures(content)[0]
    if feeds == WAVE:
        waveforms = Waveforms(folder)
        return lambda content: _wave(waveforms, content)
    raise UnsupportedError(f"Nothing makes {feeds} of a file")


def _wave(waveforms: Waveforms, content: bytes) -> Tensor:
    heard = parse_wav(content)
    return waveforms(resample(heard.values, heard.rate, waveforms.rate))[WAVE]
