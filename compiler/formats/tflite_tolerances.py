"""How close a TFLite artifact stays to the original, by precision and by what its outputs are.

Measured on MiniLM (mean of pooled texts): fp16 and fp32 1.0, int8-dynamic 0.9977 (0.9996 turned),
int8-weights 0.9994, int4-weights 0.965; the bounds leave smaller models and rarer inputs room.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeward.compiler.tolerance import EXACT_VECTORS, Bound, Tolerances, weights
from edgeward.compiler.tolerances import TOLERANCES as ONNX_TOLERANCES

_PRECISIONS = ("fp32", "fp16", "int8-dynamic", "int8-weights", "int4-weights", "int8-static")
_DYNAMIC = Tolerances(
    golden=(Bound("cosine_mean", 0.98), Bound("cosine_min", 0.93)),
    compile_only=(Bound("eval_cosine_mean", 0.99), Bound("eval_cosine_min", 0.96)),
)
_STATIC = Tolerances(
    golden=(Bound("cosine_mean", 0.97), Bound("cosine_min", 0.90)),
    compile_only=(Bound("eval_cosine_mean", 0.98),),
)


def _classes(told: Tolerances, top1: float) -> Tolerances:
    picked = Bound("eval_top1_agreement", top1)
    return Tolerances(told.golden, (*told.compile_only, picked))


def _vectors(told: Tolerances, rank: float) -> Tolerances:
    ranked = Bound("eval_rank_agreement", rank)
    return Tolerances(told.golden, (*told.compile_only, ranked))


TOLERANCES: Mapping[tuple[str, str], Tolerances] = {
    **{("fp32", kind): EXACT_VECTORS for kind in ("vectors", "classes", "tensors")},
    **{
        (precision, kind): ONNX_TOLERANCES[precision, kind]
        for precision in _PRECISIONS
        for kind in ("distributions", "transcripts")
    },
    ("fp16", "vectors"): weights(0.9999, 0.999),
    ("fp16", "classes"): weights(0.9999, 0.999, top1=0.98),
    ("fp16", "tensors"): weights(0.9999, 0.999),
    ("int8-dynamic", "vectors"): _vectors(_DYNAMIC, 0.97),
    ("int8-dynamic", "classes"): _classes(_DYNAMIC, 0.9),
    ("int8-dynamic", "tensors"): _DYNAMIC,
    ("int8-weights", "vectors"): weights(0.995, 0.98),
    ("int8-weights", "classes"): weights(0.995, 0.98, top1=0.95),
    ("int8-weights", "tensors"): weights(0.995, 0.98),
    ("int4-weights", "vectors"): weights(0.93, 0.85),
    ("int4-weights", "classes"): weights(0.93, 0.85, top1=0.8),
    ("int4-weights", "tensors"): weights(0.93, 0.85),
    ("int8-static", "vectors"): _vectors(_STATIC, 0.97),
    ("int8-static", "classes"): _classes(_STATIC, 0.9),
    ("int8-static", "tensors"): _STATIC,
}
