"""What kernels reach where weights are rounded: shares of the processor's float rate.

One token multiplies each weight once. With few threads, unpacking it takes longer than reading it;
with many, or on an accelerator, the memory decides. Measured with SmolLM2-135M and a wider random
Llama on one thread of an EPYC with AVX-512 VNNI (benchmarks/plan/reality.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kernel:
    """The share of the float rate that one token's products reach, and seconds a layer beside.

    `prompt` is the share of what weights are multiplied at that a prompt's products reach.
    """

    token: float = 0.0
    layer_s: float = 0.0
    prompt: float = 1.0


_PLAIN = Kernel()
_K_QUANTS = Kernel(0.60)
# Rows that are no multiple of 256 fall back to types that nothing packs: q5_0, q5_1, q8_0.
_FALLEN_BACK = Kernel(0.25)
_BLOCK = 256
KERNELS: Mapping[tuple[str, str], Kernel] = {
    # Activations are rounded before each product: a few operators more.
    ("onnx", "int8-dynamic"): Kernel(layer_s=80e-6),
    ("onnx", "int8-mixed"): Kernel(layer_s=80e-6),
    ("onnx", "int8-static"): Kernel(layer_s=80e-6),
    ("onnx", "int8-weights"): Kernel(0.45),
    ("onnx", "int4-weights"): Kernel(0.58),
    ("onnx", "int4-mixed"): Kernel(0.58),
    # LiteRT's with XNNPACK, on a processor that multiplies integers in no fewer instructions than
    # floats (AVX2): 0.57 of a rate that is 1.5 times theirs.
    **dict.fromkeys(
        [("tflite", name) for name in ("fp32", "fp16", "int8-weights")], Kernel(prompt=0.8)
    ),
    ("tflite", "int8-dynamic"): Kernel(prompt=0.57),
    ("tflite", "int4-weights"): Kernel(prompt=0.33),
    ("gguf", "q8_0"): Kernel(0.39),
    ("gguf", "q4_0"): Kernel(0.50),
    **dict.fromkeys(
        [
            ("gguf", name)
            for name in ("q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k")
        ],
        _K_QUANTS,
    ),
}


def kernel_of(format_name: str, precision: str, columns: int) -> Kernel:
    """Return what is known of a precision's kernels for rows of so many columns.

    Where nothing is known the memory alone decides.
    """
    found = KERNELS.get((format_name, precision), _PLAIN)
    return _FALLEN_BACK if found is _K_QUANTS and columns % _BLOCK else found
