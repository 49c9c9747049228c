"""A GGUF file of a Llama whose weights are all zero, as a file with holes: no disk is taken.

A product takes the same time whatever its numbers are. The file has no vocabulary but its size.
Source: the specification of GGUF, docs/gguf.md of ggml.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from edgeward.runtimes.bundle.gguf_types import TENSOR_TYPES

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
_UINT32, _FLOAT32, _STRING = 4, 6, 8
_NUMBERS = {kind.name.lower(): number for number, kind in TENSOR_TYPES.items()}
_PLAIN, _TABLE = _NUMBERS["f32"], _NUMBERS["f16"]


@dataclass(frozen=True, slots=True)
class BlankLlama:
    """A Llama's shape, and the type of its layers' matrices in llama.cpp's words, as q4_k.

    `cached` of its `heads` have keys and values, each of `size`. Its head is its table of words, in
    float16.
    """

    kind: str
    hidden: int
    heads: int
    cached: int
    size: int
    between: int
    layers: int
    vocabulary: int = 256
    context: int = 4096

    @property
    def multiplied(self) -> int:
        """How many weights a token is multiplied with in the layers."""
        return self.layers * sum(prod(shape) for _, shape in self._matrices())

    @property
    def multiplied_bytes(self) -> int:
        """How many bytes those take."""
        kind = TENSOR_TYPES[_NUMBERS[self.kind]]
        return self.multiplied // kind.block * kind.size

    def write(self, path: Path) -> None:
        """Write the file; OSError where there is no room for its header."""
        entries, at = [], 0
        tensors = list(self._tensors())
        for name, shape, number in tensors:
            sizes = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, number, at)
            entries.append(_text(name) + sizes)
            kind = TENSOR_TYPES[number]
            at += _aligned(prod(shape) // kind.block * kind.size)
        values = list(self._values())
        head = MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(values))
        head += b"".join([*values, *entries])
        with path.open("wb") as file:
            file.write(head)
            file.truncate(_aligned(len(head)) + at)

    def _matrices(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """A layer's matrices, columns first as the file has them."""
        queries, keys = self.heads * self.size, self.cached * self.size
        yield "attn_q", (self.hidden, queries)
        yield "attn_k", (self.hidden, keys)
        yield "attn_v", (self.hidden, keys)
        yield "attn_output", (queries, self.hidden)
        yield "ffn_gate", (self.hidden, self.between)
        yield "ffn_up", (self.hidden, self.between)
        yield "ffn_down", (self.between, self.hidden)

    def _tensors(self) -> Iterator[tuple[str, tuple[int, ...], int]]:
        yield "token_embd.weight", (self.hidden, self.vocabulary), _TABLE
        for layer in range(self.layers):
            for name in ("attn_norm", "ffn_norm"):
                yield f"blk.{layer}.{name}.weight", (self.hidden,), _PLAIN
            for name, shape in self._matrices():
                yield f"blk.{layer}.{name}.weight", shape, _NUMBERS[self.kind]
        yield "output_norm.weight", (self.hidden,), _PLAIN

    def _values(self) -> Iterator[bytes]:
        for name, text in (("general.architecture", "llama"), ("tokenizer.ggml.model", "none")):
            yield _text(name) + struct.pack("<I", _STRING) + _text(text)
        for name, value in (
            ("vocab_size", self.vocabulary),
            ("context_length", self.context),
            ("embedding_length", self.hidden),
            ("block_count", self.layers),
            ("feed_forward_length", self.between),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.cached),
            ("attention.key_length", self.size),
            ("attention.value_length", self.size),
            ("rope.dimension_count", self.size),
        ):
            yield _text(f"llama.{name}") + struct.pack("<II", _UINT32, value)
        name = "llama.attention.layer_norm_rms_epsilon"
        yield _text(name) + struct.pack("<If", _FLOAT32, 1e-5)


def _text(words: str) -> bytes:
    return struct.pack("<Q", len(words)) + words.encode()


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
