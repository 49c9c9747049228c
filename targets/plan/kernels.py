"""What kernels reach where weights are rounded: shares of the processor's float rate.

One token multiplies each weight once. With few threads, unpacking it takes longer than reading it;
with many, or on an accelerator, the memory decides. `edgeward targets calibrate` measures those of
ONNX Runtime and llama.cpp; the figures here are for targets that nobody measured: of SmolLM2-135M
and a wider random Llama on one thread of an EPYC with AVX-512 VNNI (benchmarks/plan/reality.py),
and of the calibration on one with AVX2 alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeward.targets.profile import Hardware, Reached, Recipe

from .facts import ModelFacts
from .ggml import features_of
from .memory import sums_widen
from .packing import SlotShares
from .precision import Weights, is_looked_up
from .reads import beyond, read_a_step
from .roles import kind_of


@dataclass(frozen=True, slots=True)
class Kernel:
    """The share of the float rate that one token's products reach, and seconds a layer beside.

    `prompt` is the share of what weights are multiplied at that a prompt's products reach,
    `attention` of the float rate what a token's attention over the cache does, 0 where the engine's
    own figure holds, `cache` of the bandwidth what reading the cache does, `slots` what going
    through one of fixed length does, where they are known, `floats` of the float rate what a
    token's products in float32 do, `beyond` the share of the weights that a token reads from memory
    rather than from a processor's caches. `alone` says that these are products' and nothing else's,
    where the others were taken of whole models, `whole` that they are those of whole layers, with
    all that stands between products. `attention_held` and `cache_held` are attention's where the
    caches are a processor's own.
    """

    token: float = 0.0
    layer_s: float = 0.0
    prompt: float = 1.0
    attention: float = 0.0
    cache: float | None = None
    slots: SlotShares | None = None
    floats: float = 0.0
    beyond: float = 1.0
    attention_held: float = 0.0
    cache_held: float | None = None
    alone: bool = False
    whole: bool = False


_PLAIN = Kernel()
# Between which sizes of all weights of a token their kernels are timed (`Reached`).
_HELD, _BEYOND = 16 << 20, 96 << 20
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
}

# llama.cpp's, by the types of a file's tensors: fitted to SmolLM2-135M's tokens on an EPYC with
# AVX-512 VNNI; those of few bits as calibrated on a Xeon that has it.
_LLAMA = Reached(
    attention=0.138,
    token={
        "q8_0": 0.39,
        "q4_0": 0.50,
        **dict.fromkeys(("q6_k", "q5_k", "q4_k", "q3_k", "q2_k"), 0.60),
        # What rows fall back to that are no multiple of 256.
        **dict.fromkeys(("q5_0", "q5_1"), 0.21),
        "iq3_s": 0.08,
        **dict.fromkeys(("iq3_xxs", "iq2_xs"), 0.11),
        **dict.fromkeys(("iq2_s", "iq2_xxs"), 0.14),
    },
    prompt={},
)
WITH_VNNI: Mapping[str, Reached] = {"llama": _LLAMA}
# With AVX2 alone: medians of nine calibrations of ONNX Runtime, of whose int8-dynamic a sixth is
# taken off, as models took longer (docs/planning.md); llama.cpp's of 4 and 8 bits are fitted to the
# tokens and prompts of SmolLM2-135M (benchmarks/plan/reality.py), the others an estimate: as much
# slower as those.
_SLOWER = 0.56
WITHOUT_VNNI: Mapping[str, Reached] = {
    "onnxruntime": Reached(
        attention=0.116,
        token={"fp32": 0.075, "int8-dynamic": 0.19, "int8-weights": 0.177, "int4-weights": 0.334},
        prompt={"fp32": 0.93, "int8-dynamic": 0.96, "int8-weights": 0.61, "int4-weights": 0.91},
    ),
    "llama": Reached(
        attention=0.065,
        token={name: _SLOWER * share for name, share in _LLAMA.token.items()},
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
# Names of one engine.
_SAME: Mapping[str, str] = {"llama-cpp": "llama", "llama-before-graphs": "llama"}


def measured_kernels(hardware: Hardware, engine: str) -> Reached | None:
    """Return what an engine's kernels reach on a processor: what was measured there, or a table."""
    name = _SAME.get(engine, engine)
    if name in hardware.kernels:
        return hardware.kernels[name]
    if hardware.arch == "x86_64":
        return (WITHOUT_VNNI if sums_widen(hardware) else WITH_VNNI).get(name)
    # On Arm the sums of four 8-bit products (SDOT) are what VNNI is.
    return (WITH_VNNI if features_of(hardware) else {"llama": WITHOUT_VNNI["llama"]}).get(name)


def kernel_of(
    recipe: Recipe, facts: ModelFacts, weights: Weights, measured: Reached | None = None
) -> Kernel:
    """Return what is known of the kernels that a model's weights in a recipe need.

    What was `measured` goes before. Where nothing is known the memory alone decides.
    """
    known = KERNELS.get((recipe.format, recipe.precision), _PLAIN)
    if measured is None:
        return known
    far = beyond(read_a_step(facts, weights, 1), _HELD, _BEYOND) if measured.held else 1.0
    shares = {
        name: _between(measured.held.get(name, share), share, far)
        for name, share in measured.token.items()
    }
    if weights.types:
        token, prompt = _mixed(facts, weights, shares, measured.prompt)
    else:
        same = _AS.get(recipe.precision, recipe.precision)
        token, prompt = shares.get(same, 0.0), measured.prompt.get(same, 1.0)
    attention = measured.attention or 0.0
    slots = SlotShares(measured.cache, measured.near, measured.written) if measured.cache else None
    if not token:
        return replace(known, attention=attention, cache=measured.cache, slots=slots)
    return Kernel(
        token,
        prompt=prompt,
        attention=attention,
        cache=measured.cache,
        slots=slots,
        floats=shares.get("fp32", 0.0),
        beyond=far,
        attention_held=measured.attention_held or 0.0,
        cache_held=measured.cache_held,
        alone=True,
        whole=bool(weights.types and measured.held),
    )


def _between(held: float, share: float, far: float) -> float:
    """A share of the rate: the times of what is held and of what is read follow each other."""
    return 1.0 / ((1.0 - far) / held + far / share)


def _mixed(
    facts: ModelFacts,
    weights: Weights,
    token: Mapping[str, float],
    prompt: Mapping[str, float],
) -> tuple[float, float]:
    """What tensors of several types reach together, a token's and a prompt's.

    Of a type that nobody measured, a token waits for the memory alone, and a prompt has the whole
    rate. A prompt is multiplied with the head once, which does not count.
    """
    layers: Counter[str] = Counter()
    heads: Counter[str] = Counter()
    for tensor, name, _ in weights.types:
        if not tensor.is_matrix or is_looked_up(facts, tensor):
            continue
        kind = kind_of(tensor.name)
        share = facts.active_experts / facts.experts if kind == "experts" else 1.0
        counted = heads if kind in ("head", "embedding") else layers
        counted[name] += round(tensor.count * share)
    one = _together(layers + heads, token, math.inf)
    return one, _together(layers, prompt, 1.0) or 1.0


def _together(products: Mapping[str, int], shares: Mapping[str, float], unknown: float) -> float:
    """The share of products of several types, one after the other; 0 where none takes time."""
    times = sum(count / shares.get(name, unknown) for name, count in products.items())
    return sum(products.values()) / times if times else 0.0
