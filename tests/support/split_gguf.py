"""Writes GGUF files by hand, for tests: any metadata, tensors of any type with random bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

BOOL, STRING, ARRAY, UINT32, FLOAT32 = 7, 8, 9, 4, 6
F32, F16, Q4_0, Q8_0 = 0, 1, 2, 8
_BLOCKS = {F32: (1, 4), F16: (1, 2), Q4_0: (32, 18), Q8_0: (32, 34)}
_PLAIN = {BOOL: "<?", UINT32: "<I", FLOAT32: "<f"}
TENSORS = (
    ("first.weight", (256, 400, 1), F32),
    ("ones", (32, 1, 1, 1), F32),
    ("second.weight", (512, 300), F16),
    ("third.weight", (1024, 1000), Q8_0),
    ("odd", (33,), F32),
    ("fourth.weight", (2048, 700), Q4_0),
)
METADATA: dict[str, tuple[int, Any]] = {
    "general.architecture": (STRING, "llama"),
    "general.name": (STRING, "Tiny"),
    "llama.block_count": (UINT32, 1),
    "llama.rope.freq_base": (FLOAT32, 10000.0),
    "tokenizer.ggml.add_bos_token": (BOOL, False),
    "tokenizer.ggml.tokens": (ARRAY, ["<s>", "</s>", "Malmö", ""]),
}


def write_gguf(
    path: Path,
    metadata: Mapping[str, tuple[int, Any]] = METADATA,
    tensors: Sequence[tuple[str, tuple[int, ...], int]] = TENSORS,
) -> Path:
    """Write a file of version 3, its tensors aligned to 32 bytes; return its path."""
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, (kind, value) in metadata.items():
        header += _text(key) + struct.pack("<I", kind) + _value(kind, value)
    offset, sizes = 0, []
    for name, dimensions, kind in tensors:
        block, width = _BLOCKS[kind]
        sizes.append(int(np.prod(dimensions)) // block * width)
        header += _text(name) + struct.pack("<I", len(dimensions))
        header += struct.pack(f"<{len(dimensions)}QIQ", *dimensions, kind, offset)
        offset += sizes[-1] + -sizes[-1] % 32
    generator = np.random.default_rng(1)
    with path.open("wb") as file:
        file.write(header + bytes(-len(header) % 32))
        for size in sizes:
            file.write(generator.bytes(size) + bytes(-size % 32))
    return path


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        texts = b"".join(map(_text, value))
        return struct.pack("<IQ", STRING, len(value)) + texts
    return struct.pack(_PLAIN[kind], value)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
