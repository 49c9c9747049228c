"""A GGUF file's header: metadata, and where each tensor lies. Read distrustfully, no data.

Layout, little-endian: `GGUF`, version, number of tensors, number of pairs, the pairs (key, type,
value), the tensors' descriptions (name, dimensions with the fastest first, type, offset), data.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import SourceError, UnsupportedError

from .source_gguf_types import TYPES, GgufType

Value = str | int | float | bool | list[str] | list[bool] | NDArray[np.generic]

_MAGIC = b"GGUF"
_LFS_POINTER = b"version https://git-lfs"
_VERSIONS = (2, 3)
_MOST_PAIRS, _MOST_TENSORS = 1 << 16, 1 << 20
_MOST_STRING, _MOST_TEXTS = 64 << 20, 1 << 23
_MOST_DIMENSIONS = 4
_ALIGNMENT = 32
_BOOL, _STRING, _ARRAY = 7, 8, 9
_NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor's place; `shape` has the slowest dimension first, as numpy has it."""

    name: str
    type: GgufType
    shape: tuple[int, ...]
    path: Path
    offset: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Its bytes in the file."""
        return self.elements // self.type.block * self.type.bytes


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a file says before its data."""

    path: Path
    metadata: Mapping[str, Value]
    tensors: tuple[GgufTensor, ...]

    def text(self, key: str, default: str = "") -> str:
        """Return a string; SourceError where the pair is of another type."""
        value = self.metadata.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """Return an integer; SourceError where there is none and no default."""
        value = self.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "an integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number; SourceError where there is none and no default."""
        value = self.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a flag; SourceError where the pair is of another type."""
        value = self.metadata.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "a flag")
        return value

    def texts(self, key: str) -> list[str]:
        """Return an array of texts, empty where there is none."""
        value = self.metadata.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self._wrong(key, "an array of texts")
        return [str(one) for one in value]

    def numbers(self, key: str) -> NDArray[np.generic] | None:
        """Return an array of numbers, None where there is none."""
        value = self.metadata.get(key)
        if value is not None and not isinstance(value, np.ndarray):
            raise self._wrong(key, "an array of numbers")
        return value

    def tensor(self, name: str) -> GgufTensor | None:
        """Return a tensor by its name, None where there is none."""
        return next((one for one in self.tensors if one.name == name), None)

    def _wrong(self, key: str, wanted: str) -> SourceError:
        missing = key not in self.metadata
        return SourceError(
            f"{self.path} {'lacks' if missing else 'has a wrong'} {key}",
            why=f"it should be {wanted}",
        )


def read_header(path: Path) -> GgufHeader:
    """Read and check one file's header.

    Raises SourceError for what is no whole GGUF file, UnsupportedError for versions, byte orders
    and tensor types that are not read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
            _refuse_others(path, start)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path, data).header()
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read", why=str(error)[:300]) from None


def _refuse_others(path: Path, start: bytes) -> None:
    if start == _LFS_POINTER:
        raise SourceError(f"{path} is a git-lfs pointer, not the weights", next="git lfs pull")
    if start[:4] != _MAGIC:
        raise SourceError(f"{path} is not a GGUF file", why=f"it begins with {start[:4]!r}")
    if len(start) < 8:
        raise SourceError(f"{path} is not a whole GGUF file", why="it ends in its first bytes")
    version = int.from_bytes(start[4:8], "little")
    if version in _VERSIONS:
        return
    if int.from_bytes(start[4:8], "big") in (1, *_VERSIONS):
        raise UnsupportedError(
            f"{path} is big-endian", why="only little-endian GGUF files are read"
        )
    raise UnsupportedError(
        f"{path} is GGUF version {version}",
        why=f"versions {_VERSIONS[0]} and {_VERSIONS[1]} are read",
        next="convert the original again with a current llama.cpp",
    )


class _Reader:
    """Walks a header; every length is held against what is left of the file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._at = path, data, 8
        self._end = len(data)

    def header(self) -> GgufHeader:
        count, pairs = self._unpack("<QQ", 16)
        if count > _MOST_TENSORS or pairs > _MOST_PAIRS:
            raise self._damaged(f"it claims {count} tensors and {pairs} pairs of metadata")
        metadata: dict[str, Value] = {}
        for _ in range(pairs):
            key = self._string()
            if key in metadata:
                raise self._damaged(f"{key[:80]} stands twice")
            metadata[key] = self._value(self._integer("<I", 4))
        described = [self._described() for _ in range(count)]
        tensors = self._placed(described, metadata.get("general.alignment", _ALIGNMENT))
        return GgufHeader(self._path, metadata, tensors)

    def _described(self) -> tuple[str, tuple[int, ...], GgufType, int]:
        name, dimensions = self._string(), self._integer("<I", 4)
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise self._damaged(f"{name[:80]} has {dimensions} dimensions")
        shape = self._unpack(f"<{dimensions}Q", 8 * dimensions)
        number, offset = self._integer("<I", 4), self._integer("<Q", 8)
        if number not in TYPES:
            raise UnsupportedError(
                f"{self._path} has a tensor of an unknown type",
                why=f"{name[:80]} is of type {number}; known: {', '.join(_names())}",
            )
        kind = TYPES[number]
        if 0 in shape or shape[0] % kind.block:
            raise self._damaged(f"{name[:80]} of {kind.name} has rows of {shape[0]}")
        return name, tuple(reversed(shape)), kind, offset

    def _placed(
        self, described: list[tuple[str, tuple[int, ...], GgufType, int]], alignment: Value
    ) -> tuple[GgufTensor, ...]:
        """Offsets count from the first aligned byte behind the header."""
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"its alignment is {alignment}")
        start = -(-self._at // alignment) * alignment
        tensors = tuple(
            GgufTensor(name, kind, shape, self._path, start + offset)
            for name, shape, kind, offset in described
        )
        if len({one.name for one in tensors}) != len(tensors):
            raise self._damaged("a tensor stands twice")
        for one in tensors:
            if (one.offset - start) % alignment or one.offset + one.size > self._end:
                raise self._damaged(f"the data of {one.name[:80]} is not all there")
        return tensors

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._string()
        if kind == _BOOL:
            return self._take(1) != b"\0"
        if kind == _ARRAY:
            return self._array(self._integer("<I", 4), self._integer("<Q", 8))
        found = self._numbers(kind, 1)[0].item()
        return float(found) if isinstance(found, float) else int(found)

    def _array(self, kind: int, length: int) -> Value:
        if length > self._end - self._at:
            raise self._damaged(f"an array claims {length} entries")
        if kind in (_STRING, _BOOL) and length > _MOST_TEXTS:
            raise self._damaged(f"an array claims {length} texts")
        if kind == _STRING:
            return [self._string() for _ in range(length)]
        if kind == _BOOL:
            return [byte != 0 for byte in self._take(length)]
        return self._numbers(kind, length)

    def _numbers(self, kind: int, length: int) -> NDArray[np.generic]:
        if kind not in _NUMBERS:
            raise self._damaged(f"a value is of type {kind}")
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self._take(length * dtype.itemsize), dtype)

    def _string(self) -> str:
        length = self._integer("<Q", 8)
        if length > _MOST_STRING:
            raise self._damaged(f"a text claims {length} bytes")
        return self._take(length).decode("utf-8", "replace")

    def _integer(self, form: str, size: int) -> int:
        return self._unpack(form, size)[0]

    def _unpack(self, form: str, size: int) -> tuple[int, ...]:
        return struct.unpack(form, self._take(size))

    def _take(self, size: int) -> bytes:
        if size > self._end - self._at:
            raise self._damaged(f"it ends within its header, at byte {self._end}")
        self._at += size
        return self._data[self._at - size : self._at]

    def _damaged(self, why: str) -> SourceError:
        return SourceError(
            f"{self._path} is not a whole GGUF file",
            why=f"{why}: a truncated or damaged download?",
            next="download it again",
        )


def _names() -> list[str]:
    return [kind.name for kind in TYPES.values()]
