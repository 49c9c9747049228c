"""The tensor types of GGUF that are dequantised, by their number in the file."""

from __future__ import annotations

from edgeward.runtimes.bundle.gguf_types import TENSOR_TYPES, TensorType

FLOATS = frozenset({"F32", "F16", "BF16"})
# What llama.cpp keeps activations in, whole numbers, and types that no dequantiser is at hand for.
_UNREAD = {"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64", "Q1_0", "Q2_0"}
TYPES: dict[int, TensorType] = {
    number: kind for number, kind in TENSOR_TYPES.items() if kind.name not in _UNREAD
}
