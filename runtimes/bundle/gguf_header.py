"""What a GGUF file says of itself before its tensors' data, read without trust and without data.

Format: ggml's docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from edgeward.errors import SourceError

from .gguf_types import ARRAY, STRING, TENSOR_TYPES, VALUE_LETTERS

MAGIC = b"GGUF"
ALIGNMENT = 32
_VERSIONS = (2, 3)
_MOST_KEYS, _MOST_TENSORS, _MOST_DIMENSIONS = 1 << 16, 1 << 20, 4
_LONGEST_KEY, _LONGEST_NAME = (1 << 16) - 1, 63
_LARGEST_ALIGNMENT = 1 << 20
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class GgufArray:
    """An array among the metadata: its elements' type, their count, and where they begin."""

    kind: int
    count: int
    start: int


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor: its shape as torch has it (rows first), its type's number, its bytes.

    `offset` is from the beginning of the file's data.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int
    size: int

    @property
    def type_name(self) -> str:
        """The type as llama.cpp calls it: F16, Q4_K."""
        return TENSOR_TYPES[self.kind].name


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A file's metadata by key and its tensors in the file's order.

    `tensors_start` is where the tensors' records begin, behind the metadata, `data_start` the data.
    """

    path: Path
    version: int
    metadata: Mapping[str, Scalar | GgufArray]
    tensors: tuple[GgufTensor, ...]
    data_start: int
    tensors_start: int

    @property
    def architecture(self) -> str:
        """What llama.cpp calls the model's architecture, empty where the file does not tell."""
        return self.text("general.architecture")

    def text(self, key: str) -> str:
        """Return a text of the metadata, empty where there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int | None:
        """Return a whole number of the metadata, None where there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def array(self, key: str) -> GgufArray | None:
        """Return where an array of the metadata lies, None where there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, GgufArray) else None

    def types(self) -> dict[str, int]:
        """Return how many bytes the tensors of each type take, by the type's name."""
        found: dict[str, int] = {}
        for tensor in self.tensors:
            found[tensor.type_name] = found.get(tensor.type_name, 0) + tensor.size
        return found


def read_header(path: Path) -> GgufHeader:
    """Read a file's header; SourceError where it is damaged, cut off or of another kind."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(path, data).header()
    except (OSError, ValueError, struct.error) as error:
        raise SourceError(
            f"{path.name} is not a GGUF file that can be read", why=str(error)[:300]
        ) from None


def read_array(header: GgufHeader, key: str) -> list[Scalar]:
    """Return an array of the metadata, empty where there is none.

    Bytes of a text that are not UTF-8 are replaced. Raises SourceError where the file changed.
    """
    array = header.array(key)
    if array is None:
        return []
    if array.kind == STRING:
        return [text.decode("utf-8", "replace") for text in raw_texts(header, key)]
    try:
        with header.path.open("rb") as file:
            file.seek(array.start)
            width = struct.calcsize(VALUE_LETTERS[array.kind])
            return list(
                struct.unpack(
                    f"<{array.count}{VALUE_LETTERS[array.kind]}", file.read(array.count * width)
                )
            )
    except (OSError, struct.error) as error:
        raise SourceError(f"{header.path.name} cannot be read", why=str(error)[:300]) from None


def raw_texts(header: GgufHeader, key: str) -> Iterator[bytes]:
    """Give the texts of an array as they lie in the file; none where there is no such array."""
    array = header.array(key)
    if array is None or array.kind != STRING:
        return
    try:
        with header.path.open("rb") as file:
            file.seek(array.start)
            for _ in range(array.count):
                (size,) = struct.unpack("<Q", file.read(8))
                yield file.read(size)
    except (OSError, struct.error) as error:
        raise SourceError(f"{header.path.name} cannot be read", why=str(error)[:300]) from None


def split_paths(path: Path) -> list[Path]:
    """Return the files that a model is split into, the first first; itself where it is whole.

    Raises SourceError where one is missing, or where `path` is one in the middle.
    """
    found = _SPLIT.fullmatch(path.name)
    if found is None:
        return [path]
    count, stem = int(found["count"]), found["stem"]
    if int(found["number"]) != 1:
        first = f"{stem}-00001-of-{count:05d}.gguf"
        raise SourceError(f"{path.name} is not the first file of its model", why=f"that is {first}")
    paths = [path.with_name(f"{stem}-{n:05d}-of-{count:05d}.gguf") for n in range(1, count + 1)]
    missing = [one.name for one in paths if not one.is_file()]
    if missing:
        raise SourceError(
            f"{len(missing)} of the {count} files of {stem} are missing", why=", ".join(missing[:3])
        )
    return paths


class _Reader:
    """Walks through a mapped file; ValueError or struct.error where it does not hold."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._size = path, data, len(data)
        self._at = 0

    def header(self) -> GgufHeader:
        if self._data[:4] != MAGIC:
            raise ValueError(f"it begins with {self._data[:4]!r}, not {MAGIC!r}")
        self._at = 4
        version = self._number("I")
        if version not in _VERSIONS:
            raise ValueError(f"its version is {version}, known: 2 and 3, little-endian")
        tensors = self._count("Q", _MOST_TENSORS, "tensors")
        metadata = self._metadata(self._count("Q", _MOST_KEYS, "metadata keys"))
        alignment = _alignment(metadata.get("general.alignment", ALIGNMENT))
        records = self._at
        listed = [self._tensor(alignment) for _ in range(tensors)]
        start = -(-self._at // alignment) * alignment
        self._refuse_outside(listed, start)
        return GgufHeader(self._path, version, metadata, tuple(listed), start, records)

    def _metadata(self, count: int) -> dict[str, Scalar | GgufArray]:
        found: dict[str, Scalar | GgufArray] = {}
        for _ in range(count):
            key = self._text(_LONGEST_KEY)
            if not key or key in found:
                raise ValueError(f"the metadata key {key[:80]!r} is empty or there twice")
            found[key] = self._value(self._number("I"))
        return found

    def _value(self, kind: int) -> Scalar | GgufArray:
        if kind == STRING:
            return self._text(self._size)
        if kind == ARRAY:
            return self._array()
        if kind not in VALUE_LETTERS:
            raise ValueError(f"a metadata value has the unknown type {kind}")
        (value,) = self._unpack(VALUE_LETTERS[kind])
        found: Scalar = value
        return found

    def _array(self) -> GgufArray:
        kind, count = self._number("I"), self._number("Q")
        width = 8 if kind == STRING else struct.calcsize(VALUE_LETTERS.get(kind, "B"))
        if kind != STRING and kind not in VALUE_LETTERS:
            raise ValueError(f"an array has elements of the unknown type {kind}")
        if count * width > self._size - self._at:
            raise ValueError(f"an array of {count} elements leaves the file")
        array = GgufArray(kind, count, self._at)
        if kind != STRING:
            self._at += count * width
            return array
        data, at = self._data, self._at
        for _ in range(count):
            at += 8 + int.from_bytes(data[at : at + 8], "little")
            if at > self._size:
                raise ValueError("a text of an array leaves the file")
        self._at = at
        return array

    def _tensor(self, alignment: int) -> GgufTensor:
        name = self._text(_LONGEST_NAME)
        dimensions = self._count("I", _MOST_DIMENSIONS, f"dimensions of {name}")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        kind, offset = self._number("I"), self._number("Q")
        known = TENSOR_TYPES.get(kind)
        if known is None:
            raise ValueError(f"the tensor {name} has the unknown type {kind}")
        if (shape[0] if shape else 1) % known.block or offset % alignment:
            raise ValueError(f"the tensor {name} does not fit {known.name} or its place")
        size = prod(shape) // known.block * known.size
        return GgufTensor(name, shape[::-1], kind, offset, size)

    def _refuse_outside(self, tensors: list[GgufTensor], start: int) -> None:
        room = self._size - start
        for tensor in tensors:
            if tensor.offset + tensor.size > room:
                raise ValueError(
                    f"the tensor {tensor.name} ends {tensor.offset + tensor.size - room} bytes "
                    "behind the file: it is cut off"
                )
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise ValueError("two tensors have one name")

    def _text(self, longest: int) -> str:
        size = self._number("Q")
        if size > min(longest, self._size - self._at):
            raise ValueError(f"a text of {size} bytes is too long")
        self._at += size
        return self._data[self._at - size : self._at].decode("utf-8", "replace")

    def _count(self, letter: str, most: int, what: str) -> int:
        count = self._number(letter)
        if count > most:
            raise ValueError(f"it says to have {count} {what}, more than {most}")
        return count

    def _number(self, letter: str) -> int:
        return int(self._unpack(letter)[0])

    def _unpack(self, letter: str) -> tuple[int | float | bool, ...]:
        found = struct.unpack_from(f"<{letter}", self._data, self._at)
        self._at += struct.calcsize(letter)
        return found


def _alignment(value: Scalar | GgufArray) -> int:
    if type(value) is int and 0 < value <= _LARGEST_ALIGNMENT and not value & (value - 1):
        return value
    raise ValueError(f"its alignment is {value!r}")
