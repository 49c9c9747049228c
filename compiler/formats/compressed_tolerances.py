"""What rounding may cost a generator in each precision of a compressed checkpoint.

Limits for models of every size, set from a small one: SmolLM2-135M on the packaged evaluation
passages (benchmarks/llm/). Its weights sit on another 4-bit grid already, which makes rounding
them to 4 bits again about as bad as it gets; larger models lose less.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeward.compiler.tolerance import Tolerances, distributions

_BITS_8 = distributions(0.15, 0.75, 1.15)
_BITS_4 = distributions(1.2, 0.45, 2.5)
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
