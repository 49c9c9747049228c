"""Writes GGUF files byte by byte, whole or wrong in one way."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, VOCABULARY = 32, 64
_ALIGNMENT = 32


def tensor_names() -> dict[str, tuple[int, ...]]:
    """A llama of one layer: names and shapes, slowest dimension first."""
    square = (WIDTH, WIDTH)
    block = {
        "attn_norm": (WIDTH,),
        "attn_q": square,
        "attn_k": square,
        "attn_v": square,
        "attn_output": square,
        "ffn_norm": (WIDTH,),
        "ffn_gate": square,
        "ffn_up": square,
        "ffn_down": square,
    }
    inner = {f"blk.0.{name}.weight": shape for name, shape in block.items()}
    return {"token_embd.weight": (VOCABULARY, WIDTH), "output_norm.weight": (WIDTH,), **inner}


def metadata(**changes: Any) -> dict[str, Any]:
    """What such a llama says of itself; a change to None leaves a pair out, `__` is a dot."""
    tokens = ["<|end|>", *(chr(0x100 + n) for n in range(VOCABULARY - 1))]
    found: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "general.license": "mit",
        "llama.block_count": 1,
        "llama.context_length": 128,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": WIDTH,
        "llama.attention.head_count": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, *[1] * (VOCABULARY - 1)],
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": "{{ messages }}<|im_end|>",
    }
    found |= {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in found.items() if value is not None}


def gguf_bytes(
    pairs: Mapping[str, Any],
    tensors: Mapping[str, tuple[int, ...]],
    *,
    version: int = 3,
    kind: int = 0,
    order: str = "<",
) -> bytes:
    """Return a file of float32 tensors, all of them described as of one type."""
    head = b"GGUF" + struct.pack(f"{order}IQQ", version, len(tensors), len(pairs))
    head += b"".join(_text(key) + _value(value) for key, value in pairs.items())
    data, offset = b"", 0
    for number, (name, shape) in enumerate(tensors.items()):
        numbers = np.random.default_rng(number).normal(size=shape).astype("<f4").tobytes()
        numbers += b"\0" * (-len(numbers) % _ALIGNMENT)
        sizes = struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += _text(name) + struct.pack("<I", len(shape)) + sizes
        head += struct.pack("<IQ", kind, offset)
        data, offset = data + numbers, offset + len(numbers)
    return head + b"\0" * (-len(head) % _ALIGNMENT) + data


def write_gguf(path: Path, **changes: Any) -> Path:
    """Write a whole tiny llama."""
    path.write_bytes(gguf_bytes(metadata(**changes), tensor_names()))
    return path


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<Ii", 5, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    return struct.pack("<I", 9) + _array(value)


def _array(values: Sequence[Any]) -> bytes:
    if all(isinstance(one, str) for one in values):
        return struct.pack("<IQ", 8, len(values)) + b"".join(map(_text, values))
    if isinstance(values[0], float):
        return struct.pack("<IQ", 6, len(values)) + np.array(values, "<f4").tobytes()
    return struct.pack("<IQ", 5, len(values)) + np.array(values, "<i4").tobytes()
