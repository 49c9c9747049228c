"""Sounds from WAV files and arrays, as the one channel and the rate that a model hears."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError

Floats = NDArray[np.float32]
MAX_SECONDS = 6 * 3600
_MAX_BYTES = 2 << 30
_RATES = (1000, 768_000)
_MAX_CHANNELS = 64
_ZEROS = 16
_CHUNK = 1 << 14
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_CONVERT = "ffmpeg -i FILE -ac 1 -ar 16000 sound.wav"
Sound = Path | str | NDArray[np.generic]


class Samples(NamedTuple):
    """One channel, float32 between -1 and 1, and its rate in samples a second."""

    values: Floats
    rate: int


def read_sound(sound: Sound, rate: int | None, wanted: int) -> Floats:
    """Return a sound as float32 samples at `wanted` a second, channels averaged.

    `sound` is a WAV file (PCM of 8 to 32 bits or float), or an array (samples,) or (samples,
    channels) of floats or int16 whose rate is `rate`. Raises UsageError where it is neither.
    """
    heard = read_wav(Path(sound)) if isinstance(sound, (str, Path)) else _array(sound, rate)
    return resample(heard.values, heard.rate, wanted)


def read_wav(path: Path) -> Samples:
    """Read a WAV file (RIFF, WAVE_FORMAT_PCM, IEEE_FLOAT or EXTENSIBLE)."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES >> 30} GiB")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as WAV", why=str(error), next=_CONVERT) from None
    return parse_wav(content, str(path))


def parse_wav(content: bytes, name: str = "The sound") -> Samples:
    """Read what a WAV file holds; UsageError names it where it is none."""
    try:
        return _parsed(content)
    except (ValueError, struct.error) as error:
        raise UsageError(f"{name} cannot be read as WAV", why=str(error), next=_CONVERT) from None


def resample(values: Floats, rate: int, wanted: int) -> Floats:
    """Return samples at another rate: band-limited interpolation, a Hann-windowed sinc.

    Smith 1984, "A flexible sampling-rate conversion method"; 16 zero crossings a side.
    """
    if rate == wanted or not len(values):
        return values
    shared = math.gcd(rate, wanted)
    up, down = wanted // shared, rate // shared
    widen = max(1.0, rate / wanted)
    reach = math.ceil(_ZEROS * widen)
    filters = _filters(up, reach, widen)
    padded = np.pad(values, (reach, reach + 1))
    count = -(-len(values) * up // down)
    found = np.empty(count, np.float32)
    taps = np.arange(2 * reach + 1)
    for start in range(0, count, _CHUNK):
        places = np.arange(start, min(start + _CHUNK, count), dtype=np.int64) * down
        near = padded[(places // up)[:, None] + taps]
        found[start : start + len(places)] = np.einsum("nt,nt->n", near, filters[places % up])
    return found


def _filters(up: int, reach: int, widen: float) -> Floats:
    """One filter for each phase between two samples, (up, 2 * reach + 1), each of sum one."""
    offsets = np.arange(-reach, reach + 1)[None] - np.arange(up)[:, None] / up
    inside = np.abs(offsets) < reach
    window = np.where(inside, 0.5 + 0.5 * np.cos(np.pi * offsets / reach), 0.0)
    filters = np.sinc(offsets / widen) * window
    even: Floats = (filters / filters.sum(axis=1, keepdims=True)).astype(np.float32)
    return even


def _array(sound: NDArray[np.generic], rate: int | None) -> Samples:
    values = np.asarray(sound)
    if rate is None or not _RATES[0] <= rate <= _RATES[1]:
        raise UsageError("The rate of an array of samples has to be told", why=f"got {rate!r}")
    scale = 32768 if values.dtype == np.int16 else 1
    if not (values.dtype.kind == "f" or scale > 1) or values.ndim not in (1, 2):
        raise UsageError(
            "A sound is an array of floats or int16, (samples,) or (samples, channels)",
            why=f"got {values.dtype} of shape {values.shape}",
        )
    try:
        return _checked(values.astype(np.float32) / np.float32(scale), rate)
    except ValueError as error:
        raise UsageError("The sound cannot be heard", why=str(error)) from None


def _parsed(data: bytes) -> Samples:
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("it is not a RIFF/WAVE file")
    form: tuple[int, int, int, int] | None = None
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + size]
        if name == b"fmt ":
            form = _form(body)
        if name == b"data":
            if form is None:
                raise ValueError("its samples come before their format")
            return _samples(body, *form)
        at += 8 + size + size % 2
    raise ValueError("it holds no samples")


def _form(body: bytes) -> tuple[int, int, int, int]:
    """Return kind, channels, rate and bits."""
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if kind == _EXTENSIBLE:
        (kind,) = struct.unpack_from("<H", body, 24)
    if not 1 <= channels <= _MAX_CHANNELS or not _RATES[0] <= rate <= _RATES[1]:
        raise ValueError(f"{channels} channels at {rate} samples a second")
    return kind, channels, rate, bits


def _samples(body: bytes, kind: int, channels: int, rate: int, bits: int) -> Samples:
    width = bits // 8
    if (kind, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (3, 64)}:
        raise ValueError(f"its samples are of the kind {kind} with {bits} bits")
    whole = len(body) // (width * channels) * width * channels
    raw = np.frombuffer(body[:whole], np.uint8)
    if kind == _FLOAT:
        values = raw.view(f"<f{width}").astype(np.float32)
    elif bits == 8:
        values = raw.astype(np.float32) / np.float32(128) - np.float32(1)
    else:
        wide = np.zeros((len(raw) // width, 4), np.uint8)
        wide[:, 4 - width :] = raw.reshape(-1, width)
        values = (wide.view("<i4")[:, 0] / 2**31).astype(np.float32)
    return _checked(values.reshape(-1, channels), rate)


def _checked(values: Floats, rate: int) -> Samples:
    if not values.size or len(values) > rate * MAX_SECONDS:
        raise ValueError(f"a sound lasts up to {MAX_SECONDS // 3600} hours, and is not empty")
    mono: Floats = values.reshape(len(values), -1).mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise ValueError("it holds values that are not finite")
    return Samples(mono, rate)
