"""What rounding may cost a generator in each precision of a compressed checkpoint.

Limits for models of every size, set from a small one: SmolLM2-135M on the packaged evaluation
passages (`benchmarks/llm/compressed.py`). Its weights sit on another 4-bit grid already, so
rounding them to 4 bits again is about as bad as it gets: KL 0.6 to 0.9. MXFP4, whose scales are
powers of two, falls short on it (KL 1.7, perplexity 3.8 times): such a checkpoint is made with
`--accept-degraded` alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeward.compiler.tolerance import Tolerances, distributions

_BITS_8 = distributions(0.12, 0.8, 1.12)
_BITS_4 = distributions(1.0, 0.5, 2.2)
TOLERANCES: Mapping[tuple[str, str], Tolerances] = {
    (precision, "distributions"): limits
    for precision, limits in {
        "fp8-dynamic": _BITS_8,
        "fp8-static": _BITS_8,
        "w8a8": _BITS_8,
        "w4a16-gptq": _BITS_4,
        "w4a16-awq": _BITS_4,
        "w4a16-rtn": _BITS_4,
        "nvfp4": _BITS_4,
        "nvfp4a16": _BITS_4,
        "mxfp4": _BITS_4,
    }.items()
}
