"""What each precision is to llama.cpp: the file's type, and the type that most of its weights have.

Source: llama.h's llama_ftype, llama-quant.cpp's llama_ftype_get_default_type.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeward.runtimes.bundle.gguf_types import TENSOR_TYPES

FORMAT, MIXED = "gguf", "mixed"
_NOT_WEIGHTS = frozenset(("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64", "NVFP4"))
TYPE_NUMBERS = {
    known.name.lower(): number
    for number, known in TENSOR_TYPES.items()
    if known.name not in _NOT_WEIGHTS
}
# Fewer bits than these are noise unless it is known which columns matter; llama.cpp refuses.
NEEDS_IMPORTANCE = frozenset(("iq3_xxs", "iq2_xxs", "iq2_xs", "iq2_s", "iq1_m", "iq1_s"))


@dataclass(frozen=True, slots=True)
class Kind:
    """A precision: its number as llama_ftype, the tensors' type that it begins from.

    `floats` are written by the converter itself. One that is `weighed` is made with an importance
    matrix unless it is told not to.
    """

    number: int
    tensors: str
    floats: bool = False
    weighed: bool = False


KINDS: dict[str, Kind] = {
    "fp32": Kind(0, "f32", floats=True),
    "fp16": Kind(1, "f16", floats=True),
    "bf16": Kind(32, "bf16", floats=True),
    "q8_0": Kind(7, "q8_0"),
    "q6_k": Kind(18, "q6_k"),
    "q5_k_m": Kind(17, "q5_k"),
    "q5_k_s": Kind(16, "q5_k"),
    "q4_k_m": Kind(15, "q4_k"),
    "q4_k_s": Kind(14, "q4_k"),
    "q4_0": Kind(2, "q4_0"),
    # Every tensor's type is named: the file's own is what llama.cpp calls it.
    MIXED: Kind(2, "q4_0", weighed=True),
    "iq4_xs": Kind(30, "iq4_xs"),
    "iq3_m": Kind(27, "iq3_s", weighed=True),
    "iq3_s": Kind(26, "iq3_s", weighed=True),
    "iq3_xs": Kind(22, "iq3_s", weighed=True),
    "iq3_xxs": Kind(23, "iq3_xxs", weighed=True),
    "iq2_m": Kind(29, "iq2_s", weighed=True),
    "iq2_s": Kind(28, "iq2_xs", weighed=True),
    "iq2_xs": Kind(20, "iq2_xs", weighed=True),
    "iq2_xxs": Kind(19, "iq2_xxs", weighed=True),
}


def block(kind: str) -> int:
    """Return how many weights of a row one block of a tensor's type holds."""
    return TENSOR_TYPES[TYPE_NUMBERS[kind]].block
