"""One GGUF file as several, in the layout of llama.cpp's own gguf-split, byte for byte.

The first file holds the metadata, each one its own tensors, and llama.cpp opens all of them by the
first. Data is copied in small parts: no tensor is held in memory.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from edgeward.compiler.stage_context import StageContext
from edgeward.errors import SourceError, UsageError
from edgeward.runtimes.bundle.gguf_header import (
    ALIGNMENT,
    MAGIC,
    GgufHeader,
    GgufTensor,
    read_header,
)

from .gguf_adapter import place_beside

# A file of a hub's repository is at most 50 GB.
DEFAULT_SIZE = "48G"
_UNITS = {"M": 10**6, "G": 10**9}
_SIZE = re.compile(r"([1-9]\d{0,5})([MG])")
_VERSION = 3
_COUNTS_END = 24
_UINT16, _INT32 = 2, 5
_MAX_FILES = (1 << 16) - 1
_PART = 8 << 20

Progress = Callable[[float, str], None]


def split_size(text: str) -> int:
    """Return the bytes that `2G` or `500M` says, as llama.cpp counts them; else UsageError."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text[:40]!r} is no size of a file", why="expected such as 2G or 500M (1G is 10^9)"
        )
    return int(found[1]) * _UNITS[found[2]]


def is_larger(source: Path, most_bytes: int) -> bool:
    """Tell whether a GGUF's tensors together are larger than one file's may be."""
    return sum(_padded(tensor.size) for tensor in read_header(source).tensors) > most_bytes


def split_names(stem: str, count: int) -> list[str]:
    """Return the names of `count` files as llama.cpp looks for them."""
    return [f"{stem}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]


def split(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write the parts of the input `model` as `stem`-0000N-of-0000M.gguf (a stage).

    `beside` are the roles of the files that have to lie beside a model to be opened with it.
    """
    for role in params["beside"]:
        name = f"{role}{context.inputs['model'].suffix}"
        place_beside(context.inputs["model"].with_name(name), context.out / name)
    written = split_file(
        context.inputs["model"],
        context.out,
        params["stem"],
        split_size(params["size"]),
        context.progress,
    )
    return {
        "parts": [path.name for path in written],
        "summary": f"{len(written)} files of at most {params['size']}B of tensors",
    }


def split_file(
    source: Path, folder: Path, stem: str, most_bytes: int, progress: Progress
) -> list[Path]:
    """Split by the size of the tensors in each file; return the files' paths, the first first.

    A tensor larger than `most_bytes` gets a file of its own. Raises SourceError where `source` is
    not a whole GGUF, UsageError where `most_bytes` is less than the first tensor or makes too many
    files.
    """
    header = read_header(source)
    _refuse(header)
    groups = _groups(header.tensors, most_bytes)
    paths = [folder / name for name in split_names(stem, len(groups))]
    with source.open("rb") as opened:
        metadata = _metadata(opened, header)
        for number, (path, group) in enumerate(zip(paths, groups, strict=True)):
            progress(number / len(groups), path.name)
            own = _own_keys(number, len(groups), len(header.tensors))
            entries = [*metadata, *own] if number == 0 else own
            count = len(own) + (len(header.metadata) if number == 0 else 0)
            with path.open("wb") as file:
                file.write(_header(entries, count, group))
                for tensor in group:
                    _copy(opened, file, header.data_start + tensor.offset, tensor.size)
    return paths


def _refuse(header: GgufHeader) -> None:
    if header.number("split.count") is not None:
        raise SourceError(f"{header.path.name} is one file of a split model already")
    if header.metadata.get("general.alignment", ALIGNMENT) != ALIGNMENT:
        raise SourceError(
            f"{header.path.name} aligns its tensors to another number than {ALIGNMENT}"
        )


def _groups(tensors: Sequence[GgufTensor], most_bytes: int) -> list[list[GgufTensor]]:
    groups: list[list[GgufTensor]] = [[]]
    size = 0
    for tensor in tensors:
        size += _padded(tensor.size)
        if size > most_bytes:
            groups.append([])
            size = _padded(tensor.size)
        groups[-1].append(tensor)
    if not groups[0]:
        raise UsageError(
            "The model cannot be split into files as small as that",
            why="the first would hold metadata alone" if tensors else "it has no tensors",
            next=f"edgeward compile … --split-size {_least(tensors)}M, or larger",
        )
    if len(groups) > _MAX_FILES:
        raise UsageError(f"The model would be split into more than {_MAX_FILES} files")
    return groups


def _least(tensors: Sequence[GgufTensor]) -> int:
    """Return the megabytes that the first file needs at least."""
    size = _padded(tensors[0].size) if tensors else 0
    return max(-(-size // _UNITS["M"]), 1)


def _metadata(file: BinaryIO, header: GgufHeader) -> list[bytes]:
    file.seek(_COUNTS_END)
    return [file.read(header.tensors_start - _COUNTS_END)]


def _own_keys(number: int, count: int, tensors: int) -> list[bytes]:
    """In the order in which gguf-split sets them: the count, known last, comes last."""
    return [
        _value("split.no", _UINT16, struct.pack("<H", number)),
        _value("split.tensors.count", _INT32, struct.pack("<i", tensors)),
        _value("split.count", _UINT16, struct.pack("<H", count)),
    ]


def _header(entries: Sequence[bytes], count: int, group: Sequence[GgufTensor]) -> bytes:
    header = MAGIC + struct.pack("<IQQ", _VERSION, len(group), count) + b"".join(entries)
    offset = 0
    for tensor in group:
        header += _head(tensor, offset)
        offset += _padded(tensor.size)
    return header + bytes(_padded(len(header)) - len(header))


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _value(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


def _head(tensor: GgufTensor, offset: int) -> bytes:
    """A tensor's record; ggml knows no dimensions of one behind the last of another length."""
    name, dimensions = tensor.name.encode(), list(tensor.shape[::-1])
    while len(dimensions) > 1 and dimensions[-1] == 1:
        dimensions.pop()
    return (
        struct.pack("<Q", len(name))
        + name
        + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        + struct.pack("<IQ", tensor.kind, offset)
    )


def _copy(source: BinaryIO, target: BinaryIO, start: int, size: int) -> None:
    source.seek(start)
    left = size
    while left:
        part = source.read(min(left, _PART))
        if not part:
            raise SourceError("The GGUF file was cut while it was split")
        target.write(part)
        left -= len(part)
    target.write(bytes(_padded(size) - size))
