"""How close a Core ML package stays to the original, by the evaluator.

MiniLM's packages, a small model that rounding hurts more than larger ones, were measured for most
precisions of vectors; of writers fp16 was, on SmolLM2-135M and Whisper tiny.en (a divergence of
4e-6), and int8-weights on both (0.0022, 0.0025). The other rows are estimates.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeward.compiler.tolerance import (
    EXACT_VECTORS,
    Bound,
    Tolerances,
    distributions,
    weights,
)
from edgeward.compiler.tolerances import transcripts

_GRAPH = Bound("graph_cosine_min", 0.9999, optional=True)
# Mean cosine over the evaluation set, mean over the golden cases, which are hard ones, least over
# either, share of classes kept.
_VECTORS: Mapping[str, tuple[float, float, float, float]] = {
    "fp16": (0.9999, 0.9999, 0.999, 0.98),
    "int8-weights": (0.998, 0.998, 0.99, 0.96),
    "w8a8": (0.98, 0.97, 0.9, 0.9),
    "palette6": (0.98, 0.97, 0.9, 0.85),
    "palette4": (0.96, 0.94, 0.88, 0.8),
    "int4-weights": (0.98, 0.97, 0.9, 0.85),
    "int4-channels": (0.93, 0.9, 0.8, 0.75),
    "mixed": (0.98, 0.97, 0.92, 0.9),
}
# Mean divergence in nats, share of positions with the same likeliest token, perplexity's ratio.
_WRITES: Mapping[str, tuple[float, float, float]] = {
    "fp16": (1e-3, 0.98, 1.005),
    "int8-weights": (0.02, 0.95, 1.03),
    "w8a8": (0.12, 0.8, 1.15),
    "palette6": (0.3, 0.7, 1.4),
    "palette4": (0.5, 0.6, 1.6),
    "int4-weights": (0.4, 0.65, 1.5),
    "int4-channels": (1.0, 0.5, 2.2),
    "mixed": (0.12, 0.8, 1.15),
}
# Of real speech, words and letters that may be others than the original's.
_SPOKEN: Mapping[str, tuple[float, float]] = {
    "fp16": (0.02, 0.01),
    "int8-weights": (0.05, 0.025),
    "w8a8": (0.2, 0.05),
    "palette6": (0.15, 0.075),
    "palette4": (0.25, 0.125),
    "int4-weights": (0.25, 0.125),
    "int4-channels": (0.3, 0.15),
    "mixed": (0.15, 0.075),
}


def _with_graph(told: Tolerances) -> Tolerances:
    return Tolerances(told.golden, (*told.compile_only, _GRAPH))


def _rounded(mean: float, hard: float, least: float, top1: float | None = None) -> Tolerances:
    evaluated = weights(mean, least, top1=top1).compile_only
    return Tolerances(weights(hard, least).golden, (*evaluated, _GRAPH))


# Core ML's states are float16 in a float32 program too.
_WRITES_FP32 = distributions(1e-4, 0.995, 1.001)

TOLERANCES: dict[tuple[str, str], Tolerances] = {
    **{("fp32", kind): _with_graph(EXACT_VECTORS) for kind in ("vectors", "classes", "tensors")},
    ("fp32", "distributions"): _WRITES_FP32,
    ("fp32", "transcripts"): transcripts(_WRITES_FP32, 0.0, 0.0),
}
for _precision, (_mean, _hard, _least, _top1) in _VECTORS.items():
    for _kind in ("vectors", "tensors"):
        TOLERANCES[_precision, _kind] = _rounded(_mean, _hard, _least)
    TOLERANCES[_precision, "classes"] = _rounded(_mean, _hard, _least, _top1)
    _written = TOLERANCES[_precision, "distributions"] = distributions(*_WRITES[_precision])
    TOLERANCES[_precision, "transcripts"] = transcripts(_written, *_SPOKEN[_precision])
