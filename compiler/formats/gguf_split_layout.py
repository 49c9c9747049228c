"""What a GGUF file holds, as far as splitting it needs: its metadata and tensors, unread."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgeward.errors import SourceError

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
_MAX_COUNT = 1 << 24
_MAX_TEXT = 1 << 26
_MAX_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9
# The size in bytes of each plain type of a value, by the number that the format gives it.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of the metadata with its whole record as it stands in the file."""

    key: str
    record: bytes


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: where its bytes begin in the file, and how many there are up to the next one."""

    name: bytes
    dimensions: tuple[int, ...]
    type: int
    start: int
    padded: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole file, its tensors in the order of their data."""

    entries: tuple[Entry, ...]
    tensors: tuple[Tensor, ...]


def padded(size: int) -> int:
    """Return a size with what fills it up to the next tensor."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def read_layout(path: Path) -> Layout:
    """Read the header of a little-endian GGUF of version 2 or 3, not its tensors' data.

    See https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Raises SourceError where the file
    is no such GGUF, is cut short, or aligns its tensors to another number than 32.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            return _read(file, size)
    except (struct.error, EOFError, ValueError, UnicodeDecodeError) as error:
        raise SourceError(f"{path.name} is not a whole GGUF file", why=str(error)) from None


def _read(file: BinaryIO, size: int) -> Layout:
    if file.read(4) != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version, tensor_count, entry_count = struct.unpack("<IQQ", _take(file, 20))
    if version not in (2, VERSION):
        raise ValueError(f"version {version} is not known")
    if max(tensor_count, entry_count) > _MAX_COUNT:
        raise ValueError("its counts are out of measure")
    entries = tuple(_entry(file) for _ in range(entry_count))
    _check_entries(entries)
    heads = [_head(file) for _ in range(tensor_count)]
    data = padded(file.tell())
    offsets = [offset for *_, offset in heads]
    ends = [*offsets[1:], size - data]
    if any(a % ALIGNMENT or a >= b for a, b in zip(offsets, ends, strict=True)):
        raise ValueError("its tensors do not lie one behind the other in it")
    tensors = (
        Tensor(name, dimensions, kind, data + offset, padded(end - offset))
        for (name, dimensions, kind, offset), end in zip(heads, ends, strict=True)
    )
    return Layout(entries, tuple(tensors))


def _check_entries(entries: Sequence[Entry]) -> None:
    keys = [entry.key for entry in entries]
    if len(set(keys)) != len(keys):
        raise ValueError("a key stands in it twice")
    for entry in entries:
        if entry.key == "general.alignment" and entry.record[-4:] != struct.pack("<I", ALIGNMENT):
            raise ValueError(f"its tensors are not aligned to {ALIGNMENT}")


def _entry(file: BinaryIO) -> Entry:
    start = file.tell()
    key = _text(file).decode("ascii")
    _skip_value(file, _number(file))
    end = file.tell()
    file.seek(start)
    return Entry(key, _take(file, end - start))


def _skip_value(file: BinaryIO, kind: int) -> None:
    if kind in _SIZES:
        _take(file, _SIZES[kind])
    elif kind == _STRING:
        _text(file)
    elif kind == _ARRAY:
        _skip_array(file)
    else:
        raise ValueError(f"a value of type {kind} is not known")


def _skip_array(file: BinaryIO) -> None:
    kind, count = struct.unpack("<IQ", _take(file, 12))
    if count > _MAX_COUNT:
        raise ValueError("an array is out of measure")
    if kind in _SIZES:
        _take(file, _SIZES[kind] * count)
        return
    if kind != _STRING:
        raise ValueError("an array of arrays is not known")
    for _ in range(count):
        _text(file)


def _head(file: BinaryIO) -> tuple[bytes, tuple[int, ...], int, int]:
    name, count = _text(file), _number(file)
    if not 0 < count <= _MAX_DIMENSIONS:
        raise ValueError(f"a tensor has {count} dimensions")
    dimensions = struct.unpack(f"<{count}Q", _take(file, 8 * count))
    kind, offset = struct.unpack("<IQ", _take(file, 12))
    return name, dimensions, kind, offset


def _number(file: BinaryIO) -> int:
    (number,) = struct.unpack("<I", _take(file, 4))
    return int(number)


def _text(file: BinaryIO) -> bytes:
    (length,) = struct.unpack("<Q", _take(file, 8))
    if length > _MAX_TEXT:
        raise ValueError("a text is out of measure")
    return _take(file, length)


def _take(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise EOFError("it ends too early: a truncated file?")
    return data
