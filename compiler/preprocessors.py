"""The original's own preprocessing: transformers' processors of pictures and of sounds.

Runs inside the format's toolchain. What a device makes of the same file is held against it.
"""

from __future__ import annotations

import io
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.tasks.pooling import read_json
from edgeward.runtimes.tasks.sound import parse_wav, resample

_SETTINGS = "preprocessor_config.json"
# Raised by transformers for settings that its processors do not understand.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError)
_COMPLETED = ("image_mean", "image_std", "resample", "rescale_factor")
_FLAGS = ("do_normalize", "do_rescale", "do_flip_channel_order")


class PictureProcessor:
    """Pixels of files for a graph of (height, width) `sides`."""

    def __init__(self, folder: Path, sides: tuple[int, int], channels: int) -> None:
        self._folder, self._sides, self._channels = folder, sides, channels

    @cached_property
    def _processor(self) -> Any:
        return open_processor(self._folder)

    def __call__(self, content: bytes) -> Any:
        """Return pixels (1, channels, height, width); None where no processor makes such.

        A processor that leaves a side to the picture is asked for the graph's sides instead, by
        its settings or by a picture that has them.
        """
        if self._processor is None:
            return None
        picture = self._opened(content)
        height, width = self._sides
        told: dict[str, Any] = {"size": {"height": height, "width": width}}
        resample_ = getattr(self._processor, "resample", None)
        for given, settings in ((picture, {}), (picture, told), (None, {})):
            fed = given or picture.resize((width, height), 2 if resample_ is None else resample_)
            try:
                pixels = self._processor(images=fed, return_tensors="pt", **settings).pixel_values
            except _UNREADABLE:
                continue
            if tuple(pixels.shape) == (1, self._channels, height, width):
                return pixels.float()
        return None

    def _opened(self, content: bytes) -> Any:
        from PIL import Image, ImageOps

        try:
            opened = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
            return opened.convert("L" if self._channels == 1 else "RGB")
        except (*_UNREADABLE, SyntaxError, EOFError) as error:
            raise UsageError("A picture cannot be read", why=str(error)[:300]) from None


class SoundExtractor:
    """Waveforms (1, samples) of files, or their `frames` (time, bins)."""

    def __init__(self, folder: Path, name: str, frames: tuple[int, int] | None) -> None:
        self._folder, self._name, self._frames = folder, name, frames

    @cached_property
    def _extractor(self) -> Any:
        from transformers import AutoFeatureExtractor, Wav2Vec2FeatureExtractor

        if (self._folder / _SETTINGS).is_file():
            try:
                return AutoFeatureExtractor.from_pretrained(self._folder, local_files_only=True)
            except _UNREADABLE:
                return None
        return None if self._frames else Wav2Vec2FeatureExtractor()

    def __call__(self, content: bytes) -> Any:
        """Return what the model is fed; None where no extractor makes such."""
        if self._extractor is None:
            return None
        heard, rate = parse_wav(content), int(self._extractor.sampling_rate)
        samples = resample(heard.values, heard.rate, rate)
        made = self._extractor(samples, sampling_rate=rate, return_tensors="pt")
        if self._name not in made:
            return None
        found = made[self._name].float()
        fits = self._frames is None or tuple(found.shape) == (1, *self._frames)
        return found if fits else None


def open_processor(folder: Path) -> Any:
    """Return transformers' image processor of a model, None where there is none."""
    from transformers import AutoImageProcessor

    if not (folder / _SETTINGS).is_file():
        return None
    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    except _UNREADABLE:
        return None


def complete_settings(folder: Path, assets: Path) -> None:
    """Write what a model's settings leave to the class of its processor into the copy in `assets`.

    A device has no such classes. Settings that tell everything stay as they are, to the byte.
    """
    processor, path = open_processor(folder), assets / _SETTINGS
    if processor is None or not path.is_file():
        return
    stated, whole = read_json(path), processor.to_dict()
    lacking: dict[str, Any] = {
        name: whole[name] for name in _COMPLETED if name not in stated and whole.get(name)
    }
    lacking |= {name: bool(whole.get(name)) for name in _FLAGS if name not in stated}
    told = all(name in stated for name in (*_COMPLETED[:2], "do_normalize"))
    if lacking and not told:
        path.write_text(json.dumps({**stated, **lacking}, indent=2) + "\n", encoding="utf-8")


def no_preprocessing() -> UnsupportedError:
    """Return the error of a model whose files transformers cannot prepare for its graph."""
    return UnsupportedError(
        "This model comes with no preprocessing that fits its graph",
        why="its preprocessor_config.json is missing, or makes other sizes than the model takes",
        next="edgeward compile … without --eval-data and --calibration",
    )
