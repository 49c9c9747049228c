"""Reading safetensors files tensor by tensor with numpy alone, types that numpy lacks too."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import SourceError

_MOST_HEADER = 256 << 20
_STORED = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "u1",
    "F8_E4M3": "u1",
    "F8_E5M2": "u1",
    "F8_E8M0": "u1",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor's place; `offset` counts from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.elements * np.dtype(_STORED[self.dtype]).itemsize


def read_entries(paths: Iterable[Path]) -> dict[str, Entry]:
    """Return every tensor by its name; SourceError for a damaged or unknown header."""
    found: dict[str, Entry] = {}
    for path in paths:
        for entry in _entries(path):
            if entry.name in found:
                raise SourceError(f"{path} holds {entry.name[:80]} again")
            found[entry.name] = entry
    return found


def _entries(path: Path) -> Iterable[Entry]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size, _MOST_HEADER):
                raise ValueError(f"its header claims {length} bytes")
            document = json.loads(file.read(length))
        for name, told in document.items():
            if name != "__metadata__":
                yield _entry(path, name, told, 8 + length, size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{path} is not a whole safetensors file", why=str(error)[:300]) from None


def _entry(path: Path, name: str, told: dict[str, Any], start: int, size: int) -> Entry:
    dtype, shape = str(told["dtype"]), tuple(int(one) for one in told["shape"])
    if dtype not in _STORED or any(one < 0 for one in shape):
        raise ValueError(f"{name[:80]} is of type {dtype[:20]}")
    begin, end = (int(one) for one in told["data_offsets"])
    entry = Entry(name, dtype, shape, path, start + begin)
    if begin < 0 or end - begin != entry.size or start + end > size:
        raise ValueError(f"the data of {name[:80]} is not all there")
    return entry


def read_stored(entry: Entry) -> NDArray[Any]:
    """Return the tensor as stored: BF16 as uint16, eight-bit floats as uint8."""
    stored = np.dtype(_STORED[entry.dtype])
    found = np.fromfile(entry.path, stored, entry.elements, offset=entry.offset)
    return found.reshape(entry.shape)


def read_floats(entry: Entry) -> NDArray[np.float32]:
    """Return the tensor's numbers as float32; integers keep their value."""
    stored = read_stored(entry)
    if entry.dtype == "BF16":
        widened = stored.astype(np.uint32) << 16
        return widened.view(np.float32)
    table = _TABLES.get(entry.dtype)
    return stored.astype(np.float32) if table is None else table[stored]


def _eight_bits(exponents: int, bias: int, *, finite: bool) -> NDArray[np.float32]:
    """Every value of a float of eight bits; `finite` has no infinities, one NaN a sign."""
    codes = np.arange(256)
    mantissas = 7 - exponents
    exponent = (codes >> mantissas) & ((1 << exponents) - 1)
    part = (codes & ((1 << mantissas) - 1)) / (1 << mantissas)
    normal = exponent > 0
    size = np.where(normal, (1 + part) * 2.0 ** (exponent - bias), part * 2.0 ** (1 - bias))
    if finite:
        size[(codes & 0x7F) == 0x7F] = np.nan
    else:
        last = exponent == (1 << exponents) - 1
        size = np.where(last, np.where(part == 0, np.inf, np.nan), size)
    return np.where(codes >> 7, -size, size).astype(np.float32)


def _exponents() -> NDArray[np.float32]:
    """Powers of two, the last one no number (OCP Microscaling's E8M0)."""
    powers = 2.0 ** (np.arange(256, dtype=np.float64) - 127)
    powers[255] = np.nan
    return powers.astype(np.float32)


_TABLES = {
    "F8_E4M3": _eight_bits(4, 7, finite=True),
    "F8_E5M2": _eight_bits(5, 15, finite=False),
    "F8_E8M0": _exponents(),
}
E4M3, E8M0 = _TABLES["F8_E4M3"], _TABLES["F8_E8M0"]
