"""GGUF files of a few bytes, written by hand; no model."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

Value = str | int | bool | Sequence[str] | Sequence[int]
Tensor = tuple[Sequence[int], int, int]
F32, Q4_0 = 0, 2
METADATA: Mapping[str, Value] = {
    "general.architecture": "llama",
    "general.file_type": 0,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b", "ab"],
    "tokenizer.ggml.token_type": [1, 1, 1],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.add_bos_token": False,
}
TENSORS: Mapping[str, Tensor] = {"one": ((4, 3), F32, 0), "two": ((32, 2), Q4_0, 64)}


def tiny_gguf(
    path: Path,
    metadata: Mapping[str, Value] = METADATA,
    tensors: Mapping[str, Tensor] = TENSORS,
    *,
    version: int = 3,
    data: int = 100,
) -> Path:
    """Write a file; a tensor is its shape as ggml has it, its type and its offset."""
    body = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        body += text(key) + typed(value)
    for name, (shape, kind, offset) in tensors.items():
        body += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    path.write_bytes(body + bytes(-len(body) % 32) + bytes(data))
    return path


def text(value: str) -> bytes:
    """A text as it lies in the file."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


def typed(value: Value) -> bytes:
    """A value behind its type."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(text(str(one)) for one in value)
    return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
