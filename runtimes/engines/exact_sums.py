"""Whether ONNX Runtime's products of 8-bit numbers are exact on this processor.

x86 without VNNI adds pairs of products in 16 bits, which overflow: the file that another machine
proved would answer otherwise there. An option has their sums exact
(kOrtSessionOptionsAvx2PrecisionMode); one with VNNI, which does not need it, took 3.4 times as long
for a prompt's products with it. So the processor is asked with the largest numbers that there are.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

GRAPH = Path(__file__).with_suffix(".onnx")
EXACT = ("session.x64quantprecision", "1")
# uint8 rows of COLUMNS numbers times int8 ones, to int32.
COLUMNS, OUTPUTS = 64, 16
_LARGEST = (255, 127)


@cache
def sums_are_exact(module: Any) -> bool:
    """Say whether they are without the option; a millisecond, once a process."""
    import numpy as np

    settings = module.SessionOptions()
    settings.intra_op_num_threads = 1
    session = module.InferenceSession(
        GRAPH.read_bytes(), settings, providers=["CPUExecutionProvider"]
    )
    one, other = _LARGEST
    rows = np.full((4, COLUMNS), one, np.uint8)
    weights = np.full((COLUMNS, OUTPUTS), other, np.int8)
    (sums,) = session.run(None, {"rows": rows, "weights": weights})
    return bool(np.all(sums == one * other * COLUMNS))
