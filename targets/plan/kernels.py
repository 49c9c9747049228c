"""What kernels reach where weights are rounded: shares of the processor's float rate.

One token multiplies each weight once. With few threads, unpacking it takes longer than reading it;
with many, or on an accelerator, the memory decides. `edgeward targets calibrate` measures those of
ONNX Runtime alone; the figures here are for targets that nobody measured: of SmolLM2-135M and a
wider random Llama on one thread of an EPYC with AVX-512 VNNI (benchmarks/plan/reality.py), and of
the calibration on one with AVX2 alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeward.targets.profile import Hardware, Reached

from .memory import sums_widen


@dataclass(frozen=True, slots=True)
class Kernel:
    """The share of the float rate that one token's products reach, and seconds a layer beside.

    `prompt` is the share of what weights are multiplied at that a prompt's products reach,
    `attention` of the float rate what a token's attention over the cache does, 0 where the engine's
    own figure holds. `alone` says that these are products' and nothing else's, where the others
    were taken of whole models.
    """

    token: float = 0.0
    layer_s: float = 0.0
    prompt: float = 1.0
    attention: float = 0.0
    alone: bool = False


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

# With AVX2 alone. ONNX Runtime: medians of nine calibrations (`edgeward targets calibrate`).
# llama.cpp: fitted to SmolLM2-135M's tokens and prompts (benchmarks/plan/reality.py).
WITHOUT_VNNI: Mapping[str, Reached] = {
    "onnxruntime": Reached(
        attention=0.116,
        token={"fp32": 0.075, "int8-dynamic": 0.228, "int8-weights": 0.177, "int4-weights": 0.334},
        prompt={"fp32": 0.93, "int8-dynamic": 1.15, "int8-weights": 0.61, "int4-weights": 0.91},
    ),
    "llama": Reached(
        attention=0.065,
        token={"q8_0": 0.22, "q4_0": 0.28},
        prompt={"q8_0": 0.63, "q4_0": 0.78},
    ),
}
# A precision whose products are another's: floats of 16 bits are widened as they are loaded.
_AS: Mapping[str, str] = {
    "fp16": "fp32",
    "bf16": "fp32",
    "int8-mixed": "int8-dynamic",
    "int8-static": "int8-dynamic",
    "int4-mixed": "int4-weights",
}


def measured_kernels(hardware: Hardware, engine: str) -> Reached | None:
    """Return what an engine's kernels reach on a processor where that was measured."""
    if engine in hardware.kernels:
        return hardware.kernels[engine]
    return WITHOUT_VNNI.get(engine) if sums_widen(hardware) else None


def kernel_of(
    format_name: str, precision: str, columns: int, measured: Reached | None = None
) -> Kernel:
    """Return what is known of a precision's kernels for rows of so many columns.

    What was `measured` on the target goes before. Where nothing is known the memory alone decides.
    """
    same = _AS.get(precision, precision)
    if measured is not None and same in measured.token:
        prompt = measured.prompt.get(same, 1.0)
        return Kernel(measured.token[same], prompt=prompt, attention=measured.attention, alone=True)
    found = KERNELS.get((format_name, precision), _PLAIN)
    if found is _K_QUANTS and columns % _BLOCK:
        found = _FALLEN_BACK
    return replace(found, attention=measured.attention) if measured else found
