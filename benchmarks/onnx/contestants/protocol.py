"""How a contestant answers: one JSON object a line, on stdin and stdout, in milliseconds.

`{"prefill": [ids]}` begins a new text, `{"decode": id}` adds a token: each is answered by
`{"ms": ...}`. A contestant says `{"ready": true}` when it is loaded and warm.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence

WARM = list(range(100, 116))


def serve(prefill: Callable[[Sequence[int]], object], decode: Callable[[int], object]) -> None:
    """Answer until stdin ends; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(document: dict[str, object]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    prefill(WARM)
    decode(WARM[0])
    decode(WARM[0])
    answer({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        if "prefill" in asked:
            prefill(asked["prefill"])
        else:
            decode(asked["decode"])
        answer({"ms": (time.perf_counter() - began) * 1e3})
