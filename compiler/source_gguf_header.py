"""A GGUF file as a source: metadata by what it should be, and where each tensor lies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import SourceError, UnsupportedError
from edgeward.runtimes.bundle import gguf_header
from edgeward.runtimes.bundle.gguf_header import MAGIC, GgufArray, read_array
from edgeward.runtimes.bundle.gguf_types import STRING, TensorType

from .source_gguf_types import TYPES

Value = str | int | float | bool | list[str] | list[bool] | NDArray[np.generic]

_LFS_POINTER = b"version https://git-lfs"
_VERSIONS = (2, 3)
_BOOL = 7


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor's place; `shape` has the slowest dimension first, as numpy has it."""

    name: str
    type: TensorType
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
        return self.elements // self.type.block * self.type.size


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
            _refuse_others(path, file.read(len(_LFS_POINTER)))
    except OSError as error:
        raise SourceError(f"{path} cannot be read", why=str(error)[:300]) from None
    found = gguf_header.read_header(path)
    unread = [one for one in found.tensors if one.kind not in TYPES]
    if unread:
        raise UnsupportedError(
            f"{path} has a tensor that cannot be dequantised",
            why=f"{unread[0].name[:80]} is {unread[0].type_name}; known: {', '.join(_names())}",
        )
    tensors = tuple(
        GgufTensor(one.name, TYPES[one.kind], one.shape, path, found.data_start + one.offset)
        for one in found.tensors
    )
    metadata = {key: _value(found, key, value) for key, value in found.metadata.items()}
    return GgufHeader(path, metadata, tensors)


def _refuse_others(path: Path, start: bytes) -> None:
    if start == _LFS_POINTER:
        raise SourceError(f"{path} is a git-lfs pointer, not the weights", next="git lfs pull")
    if start[:4] != MAGIC:
        raise SourceError(f"{path} is not a GGUF file", why=f"it begins with {start[:4]!r}")
    version = int.from_bytes(start[4:8], "little")
    if version in _VERSIONS or len(start) < 8:
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


def _value(found: gguf_header.GgufHeader, key: str, value: gguf_header.Scalar | GgufArray) -> Value:
    if not isinstance(value, GgufArray):
        return value
    listed = read_array(found, key)
    if value.kind == STRING:
        return [str(one) for one in listed]
    if value.kind == _BOOL:
        return [bool(one) for one in listed]
    return np.array(listed)


def _names() -> list[str]:
    return [kind.name for kind in TYPES.values()]
