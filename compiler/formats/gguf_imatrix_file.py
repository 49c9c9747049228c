"""Importance matrices as llama.cpp keeps them: how large the inputs of each weight's columns are.

A file of GGUF's own kind, or the older one that began with a count. Both are read without trust.
Formats: llama.cpp's tools/imatrix/imatrix.cpp and common/imatrix-loader.cpp.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import SourceError, UsageError
from edgeward.runtimes.bundle.gguf_header import (
    ALIGNMENT,
    MAGIC,
    GgufHeader,
    GgufTensor,
    read_array,
    read_header,
)

Floats = NDArray[np.float32]
SUMS, COUNTS = ".in_sum2", ".counts"
_DATASETS, _CHUNKS = "imatrix.datasets", "imatrix.chunk_count"
_CHUNK_SIZE = "imatrix.chunk_size"
_UINT32, _STRING, _ARRAY = 4, 8, 9
_F32 = 0
_MOST_ENTRIES, _LONGEST_NAME, _MOST_BYTES = 1 << 16, 512, 4 << 30


@dataclass(frozen=True, slots=True)
class Importance:
    """Mean squares of a weight's inputs, a column each, experts one behind the other.

    `chunks` of text were run, of a `dataset`; `name` is the file's, without a folder.
    """

    name: str
    means: Mapping[str, Floats]
    dataset: str = ""
    chunks: int = 0


@dataclass(slots=True)
class Sums:
    """Sums of squares (experts, columns) and how many rows went into them (experts)."""

    squares: NDArray[np.float64]
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))


def read_importance(path: Path) -> Importance:
    """Read a file of either kind; UsageError where it is none, is cut off or not finite."""
    try:
        with path.open("rb") as file:
            modern = file.read(len(MAGIC)) == MAGIC
            file.seek(0)
            found = _read(path) if modern else _read_older(path, file)
    except (OSError, ValueError, struct.error, SourceError) as error:
        why = error.why or error.what if isinstance(error, SourceError) else str(error)
        raise UsageError(f"{path.name} is no importance matrix", why=why[:300]) from None
    for name, means in found.means.items():
        if not np.isfinite(means).all() or (means < 0).any():
            raise UsageError(
                f"{path.name} is no importance matrix",
                why=f"{name} has means that are negative or not finite",
            )
    return found


def write_importance(path: Path, sums: Mapping[str, Sums], dataset: str, size: int) -> None:
    """Write it as llama-imatrix does; `size` is how many tokens a chunk of text has."""
    listed: list[tuple[str, Floats]] = []
    for name in sorted(sums):
        squares, counts = sums[name].squares, sums[name].counts
        listed.append((name + SUMS, squares.astype(np.float32)))
        listed.append((name + COUNTS, counts.astype(np.float32).reshape(-1, 1)))
    chunks = int(max((one.counts.max() for one in sums.values()), default=0) // size)
    entries = [
        _key("general.type", _STRING) + _text("imatrix"),
        _key(_DATASETS, _ARRAY) + struct.pack("<IQ", _STRING, 1) + _text(dataset),
        _key(_CHUNKS, _UINT32) + struct.pack("<I", chunks),
        _key(_CHUNK_SIZE, _UINT32) + struct.pack("<I", size),
    ]
    head = MAGIC + struct.pack("<IQQ", 3, len(listed), len(entries)) + b"".join(entries)
    offset = 0
    for name, values in listed:
        shape = _dimensions(values)
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _F32, offset)
        offset += _padded(values.nbytes)
    with path.open("wb") as file:
        file.write(head + bytes(_padded(len(head)) - len(head)))
        for _, values in listed:
            file.write(values.tobytes() + bytes(_padded(values.nbytes) - values.nbytes))


def _read(path: Path) -> Importance:
    header = read_header(path)
    if header.text("general.type") != "imatrix":
        raise ValueError(f"it is a GGUF file of {header.architecture or 'no model'}")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    if any(tensor.kind != _F32 for tensor in tensors.values()):
        raise ValueError("its tensors are not all F32")
    names = [name.removesuffix(SUMS) for name in tensors if name.endswith(SUMS)]
    means = {}
    with path.open("rb") as file:
        for name in names:
            counts = tensors.get(name + COUNTS)
            if counts is None:
                raise ValueError(f"{name} has sums and no counts")
            means[name] = _means(
                _values(file, header, tensors[name + SUMS]), _values(file, header, counts)
            )
    if not means:
        raise ValueError("it holds nothing")
    datasets = read_array(header, _DATASETS)
    return Importance(
        path.name, means, str(datasets[0]) if datasets else "", header.number(_CHUNKS) or 0
    )


def _means(sums: Floats, counts: Floats) -> Floats:
    """An expert that was never asked weighs all its columns alike."""
    if not counts.size or sums.size % counts.size:
        raise ValueError(f"{sums.size} sums do not divide by {counts.size} counts")
    rounded = np.rint(counts).astype(np.float32).reshape(-1, 1)
    rows = sums.reshape(counts.size, -1)
    means = np.where(rounded > 0, rows / np.maximum(rounded, 1), np.float32(1))
    return np.ascontiguousarray(means.reshape(-1), np.float32)


def _values(file: BinaryIO, header: GgufHeader, tensor: GgufTensor) -> Floats:
    file.seek(header.data_start + tensor.offset)
    return np.frombuffer(file.read(tensor.size), "<f4").astype(np.float32)


def _read_older(path: Path, file: BinaryIO) -> Importance:
    """Count, then entries: name, calls, values that are sums over calls; chunks and dataset."""
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"it has {size} bytes")
    (entries,) = _unpack(file, "i")
    if not 0 < entries <= _MOST_ENTRIES:
        raise ValueError(f"it says to have {entries} entries")
    means = {}
    for _ in range(entries):
        name = _older_text(file)
        calls, count = _unpack(file, "ii")
        if not 0 < count <= (size - file.tell()) // 4:
            raise ValueError(f"{name[:80]} says to have {count} values")
        values = np.frombuffer(file.read(4 * count), "<f4").astype(np.float32)
        means[name] = values / np.float32(calls) if calls > 0 else values
    tail = file.read(4)
    chunks = struct.unpack("<i", tail)[0] if len(tail) == 4 else 0
    dataset = _older_text(file) if file.tell() < size else ""
    return Importance(path.name, means, dataset, max(chunks, 0))


def _older_text(file: BinaryIO) -> str:
    (length,) = _unpack(file, "i")
    if not 0 <= length <= _LONGEST_NAME:
        raise ValueError(f"a name of {length} bytes")
    return file.read(length).decode("utf-8", "replace")


def _unpack(file: BinaryIO, letters: str) -> tuple[int, ...]:
    return struct.unpack(f"<{letters}", file.read(struct.calcsize(f"<{letters}")))


def _dimensions(values: Floats) -> list[int]:
    """As ggml counts them: columns first, without ones at the end."""
    shape = list(reversed(values.shape))
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return shape


def _key(name: str, kind: int) -> bytes:
    return _text(name) + struct.pack("<I", kind)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
