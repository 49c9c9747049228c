"""What a GGUF file says of itself, read piece by piece so that a remote one costs its header.

Format: ggml's docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from edgeward.errors import SourceError
from edgeward.runtimes.bundle.gguf_types import ARRAY, STRING, TENSOR_TYPES, VALUE_LETTERS

from .blob import Blob
from .facts import Tensor

_PIECE = 1 << 20
_MOST_KEYS, _MOST_TENSORS, _LONGEST = 1 << 16, 1 << 20, 1 << 20
_MOST_BYTES = 256 * 2**20
_LONGEST_ARRAY_KEPT = 4096
# llama.cpp's architectures by the names that configurations have
_ARCHITECTURES = {
    "gemma3": "gemma3_text",
    "phi2": "phi",
    "gpt-oss": "gpt_oss",
    "gptneox": "gpt_neox",
    "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe",
    "deepseek2": "deepseek_v2",
    "nomic-bert": "nomic_bert",
}
_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "sliding_window": "attention.sliding_window",
    "num_local_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "kv_lora_rank": "attention.kv_lora_rank",
}


def read_gguf(blob: Blob) -> tuple[dict[str, object], list[Tensor]]:
    """Return a GGUF file's configuration, in config.json's words, and its tensors.

    Raises SourceError where the file is damaged, cut off or of another kind.
    """
    reader = _Reader(blob)
    try:
        metadata, tensors = reader.header()
    except (struct.error, ValueError, KeyError) as error:
        raise SourceError(
            f"{blob.name} is not a GGUF file that can be read", why=str(error)[:200]
        ) from None
    return _configuration(metadata, tensors), tensors


def _configuration(metadata: Mapping[str, object], tensors: list[Tensor]) -> dict[str, object]:
    said = metadata.get("general.architecture")
    architecture = said if isinstance(said, str) else ""
    found: dict[str, object] = {"model_type": _ARCHITECTURES.get(architecture, architecture)}
    for key, name in _KEYS.items():
        value = metadata.get(f"{architecture}.{name}")
        if isinstance(value, list) and value:
            value = max(value)
        if value:
            found[key] = value
    if "kv_lora_rank" in found:
        found["qk_rope_head_dim"] = metadata.get(f"{architecture}.rope.dimension_count", 64)
        found.pop("head_dim", None)
    tables = [each.shape[0] for each in tensors if each.name == "token_embd.weight"]
    found["vocab_size"] = tables[0] if tables else 0
    found["tie_word_embeddings"] = not any(each.name == "output.weight" for each in tensors)
    return found


class _Reader:
    """Walks through the header; ValueError or struct.error where it does not hold."""

    def __init__(self, blob: Blob) -> None:
        self._blob, self._at, self._start, self._piece = blob, 0, 0, b""

    def header(self) -> tuple[dict[str, object], list[Tensor]]:
        if self._take(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        if self._number("I") not in (2, 3):
            raise ValueError("its version is neither 2 nor 3")
        tensors = self._bounded(self._number("Q"), _MOST_TENSORS, "tensors")
        keys = self._bounded(self._number("Q"), _MOST_KEYS, "metadata keys")
        metadata = {}
        for _ in range(keys):
            key = self._text()
            metadata[key] = self._value(self._number("I"))
        return metadata, [self._tensor() for _ in range(tensors)]

    def _tensor(self) -> Tensor:
        name = self._text()
        dimensions = self._bounded(self._number("I"), 4, "dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))[::-1]
        if any(size >= 2**40 for size in shape):
            raise ValueError(f"the tensor {name[:60]} has the shape {shape}")
        kind = TENSOR_TYPES[self._number("I")]
        self._number("Q")
        return Tensor(name, shape, bits=8 * kind.size / kind.block, stored_as=kind.name.lower())

    def _value(self, kind: int) -> object:
        if kind == STRING:
            return self._text()
        if kind != ARRAY:
            return self._unpack(VALUE_LETTERS[kind])
        inner, count = self._number("I"), self._number("Q")
        self._bounded(count, _MOST_BYTES, "elements")
        if inner == STRING:
            for _ in range(count):
                self._skip(self._number("Q"))
            return None
        width = struct.calcsize(VALUE_LETTERS[inner])
        if count > _LONGEST_ARRAY_KEPT:
            self._skip(count * width)
            return None
        return [self._unpack(VALUE_LETTERS[inner]) for _ in range(count)]

    def _text(self) -> str:
        return self._take(self._bounded(self._number("Q"), _LONGEST, "bytes in a text")).decode(
            "utf-8", "replace"
        )

    def _number(self, letter: str) -> int:
        return int(self._unpack(letter))

    def _unpack(self, letter: str) -> float:
        found: float = struct.unpack(f"<{letter}", self._take(struct.calcsize(letter)))[0]
        return found

    def _skip(self, size: int) -> None:
        self._at += self._bounded(size, _MOST_BYTES - self._at, "bytes")

    def _take(self, size: int) -> bytes:
        inside = self._at - self._start
        if inside < 0 or inside + size > len(self._piece):
            self._start, inside = self._at, 0
            self._piece = self._blob.read(self._at, max(size, _PIECE))
        data = self._piece[inside : inside + size]
        if len(data) < size:
            raise ValueError("it is cut off in its header")
        self._at += size
        return data

    @staticmethod
    def _bounded(count: int, most: int, what: str) -> int:
        if not 0 <= count <= most:
            raise ValueError(f"it says to have {count} {what}, more than {most}")
        return count
