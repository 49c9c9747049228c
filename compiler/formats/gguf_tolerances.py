"""How close a GGUF has to stay to the float32 original, by precision.

Measured on SmolLM2-135M (whose rows do not divide by 256: many tensors fall back to wider types)
and on all-MiniLM-L6-v2, with room for a small model of another kind. Fewer bits cost more; a broken
file costs nats, not tenths. Vectors in float32 are not held to single values: llama.cpp reads GELU
from a table of float16.
"""

from __future__ import annotations

from edgeward.compiler.tolerance import (
    EXACT_GENERATION,
    Tolerances,
    distributions,
    weights,
)

from .gguf_vocabulary import BOUNDS

# Divergence in nats, share of likeliest tokens kept, perplexity over the original's.
_DISTRIBUTIONS = {
    "fp16": (1e-3, 0.98, 1.005),
    "bf16": (5e-3, 0.96, 1.01),
    "q8_0": (0.01, 0.95, 1.02),
    "q6_k": (0.03, 0.92, 1.04),
    "q5_k_m": (0.12, 0.82, 1.15),
    "q5_k_s": (0.12, 0.82, 1.15),
    "q4_k_m": (0.2, 0.75, 1.25),
    "q4_k_s": (0.2, 0.75, 1.25),
    "q4_0": (0.4, 0.65, 1.5),
    "iq4_xs": (0.3, 0.68, 1.35),
    "mixed": (0.4, 0.65, 1.5),
    "iq3_m": (0.6, 0.6, 1.8),
    "iq3_s": (0.6, 0.6, 1.8),
    "iq3_xs": (0.6, 0.6, 1.8),
    "iq3_xxs": (1.0, 0.5, 2.5),
    "iq2_m": (1.5, 0.4, 4.0),
    "iq2_s": (1.5, 0.4, 4.0),
    "iq2_xs": (2.0, 0.35, 6.0),
    "iq2_xxs": (2.5, 0.3, 8.0),
}
# Mean and least cosine.
_VECTORS = {
    "fp16": (0.9999, 0.999),
    "bf16": (0.9995, 0.997),
    "q8_0": (0.999, 0.995),
    "q6_k": (0.995, 0.98),
    "q5_k_m": (0.985, 0.95),
    "q5_k_s": (0.985, 0.95),
    "q4_k_m": (0.97, 0.92),
    "q4_k_s": (0.97, 0.92),
    "q4_0": (0.94, 0.85),
    "iq4_xs": (0.95, 0.87),
    "mixed": (0.94, 0.85),
    "iq3_m": (0.92, 0.8),
    "iq3_s": (0.92, 0.8),
    "iq3_xs": (0.92, 0.8),
    "iq3_xxs": (0.85, 0.7),
    "iq2_m": (0.8, 0.6),
    "iq2_s": (0.8, 0.6),
    "iq2_xs": (0.7, 0.5),
    "iq2_xxs": (0.7, 0.5),
}


def _with_vocabulary(told: Tolerances) -> Tolerances:
    """The tokenizer has to be the original's, whatever became of the weights."""
    return Tolerances(told.golden, (*told.compile_only, *BOUNDS))


TOLERANCES: dict[tuple[str, str], Tolerances] = {
    ("fp32", "distributions"): _with_vocabulary(EXACT_GENERATION),
    ("fp32", "vectors"): _with_vocabulary(weights(0.99999, 0.9999)),
    **{
        (precision, "distributions"): _with_vocabulary(distributions(*told))
        for precision, told in _DISTRIBUTIONS.items()
    },
    **{
        (precision, "vectors"): _with_vocabulary(weights(*told))
        for precision, told in _VECTORS.items()
    },
}
