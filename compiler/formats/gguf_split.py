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
from edgeward.errors import UsageError

from .gguf_split_layout import ALIGNMENT, MAGIC, VERSION, Layout, Tensor, padded, read_layout

# A file of a hub's repository is at most 50 GB.
DEFAULT_SIZE = "48G"
_UNITS = {"M": 10**6, "G": 10**9}
_SIZE = re.compile(r"([1-9]\d{0,5})([MG])")
_OWN_KEYS = ("split.no", "split.count", "split.tensors.count")
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


def split_names(stem: str, count: int) -> list[str]:
    """Return the names of `count` files as llama.cpp looks for them."""
    return [f"{stem}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]


def split(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write the parts of the input `model` as `stem`-0000N-of-0000M.gguf (a stage)."""
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
    layout = read_layout(source)
    groups = _groups(layout, most_bytes)
    paths = [folder / name for name in split_names(stem, len(groups))]
    with source.open("rb") as opened:
        for number, (path, group) in enumerate(zip(paths, groups, strict=True)):
            progress(number / len(groups), path.name)
            with path.open("wb") as file:
                file.write(_header(layout, group, number, len(groups)))
                for tensor in group:
                    _copy(opened, file, tensor)
    return paths


def _groups(layout: Layout, most_bytes: int) -> list[list[Tensor]]:
    groups: list[list[Tensor]] = [[]]
    size = 0
    for tensor in layout.tensors:
        size += tensor.padded
        if size > most_bytes:
            groups.append([])
            size = tensor.padded
        groups[-1].append(tensor)
    if not groups[0]:
        raise UsageError(
            "The model cannot be split into files as small as that",
            why="the first would hold metadata alone" if layout.tensors else "it has no tensors",
            next=f"edgeward compile … --split-size {-(-size // _UNITS['M'])}M, or larger",
        )
    if len(groups) > _MAX_FILES:
        raise UsageError(f"The model would be split into more than {_MAX_FILES} files")
    return groups


def _header(layout: Layout, group: Sequence[Tensor], number: int, count: int) -> bytes:
    """Keys in the order in which gguf-split sets them: the count, known last, comes last."""
    kept = [e.record for e in layout.entries if e.key not in _OWN_KEYS] if number == 0 else []
    own = [
        _value("split.no", _UINT16, struct.pack("<H", number)),
        _value("split.tensors.count", _INT32, struct.pack("<i", len(layout.tensors))),
        _value("split.count", _UINT16, struct.pack("<H", count)),
    ]
    entries = [*kept, *own]
    header = MAGIC + struct.pack("<IQQ", VERSION, len(group), len(entries)) + b"".join(entries)
    offset = 0
    for tensor in group:
        header += _head(tensor, offset)
        offset += tensor.padded
    return header + bytes(padded(len(header)) - len(header))


def _value(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


def _head(tensor: Tensor, offset: int) -> bytes:
    """A tensor's record; ggml knows no dimensions of one behind the last of another length."""
    dimensions = list(tensor.dimensions)
    while len(dimensions) > 1 and dimensions[-1] == 1:
        dimensions.pop()
    return (
        struct.pack("<Q", len(tensor.name))
        + tensor.name
        + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        + struct.pack("<IQ", tensor.type, offset)
    )


def _copy(source: BinaryIO, target: BinaryIO, tensor: Tensor) -> None:
    source.seek(tensor.start)
    left = tensor.padded
    while left and (part := source.read(min(left, _PART))):
        target.write(part)
        left -= len(part)
    target.write(bytes(left % ALIGNMENT))
