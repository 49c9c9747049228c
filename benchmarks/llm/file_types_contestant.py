"""Prefill and decode of several GGUF files in turn; run with the `llama` toolchain's Python.

usage: file_types_contestant.py FILE.gguf... prints JSON: speeds over the first file's.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.llama import open_model

PROMPT, DECODED, ROUNDS = 128, 16, 9


def main() -> None:
    """Ask every file in turn and print the medians of the rounds' own ratios."""
    sessions = [open_model(Path(path), EngineOptions(threads=1)) for path in sys.argv[1:]]
    ids = list(range(100, 100 + PROMPT))
    prefills: list[list[float]] = []
    decodes: list[list[float]] = []
    for number in range(ROUNDS + 1):
        prefill, decode = [0.0] * len(sessions), [0.0] * len(sessions)
        for place in range(len(sessions)):
            which = (place + number) % len(sessions)
            state = sessions[which].start()
            began = time.perf_counter()
            state.next_logits(ids)
            read = time.perf_counter()
            for _ in range(DECODED):
                state.next_logits(ids[:1])
            prefill[which], decode[which] = read - began, time.perf_counter() - read
        if number:
            prefills.append(prefill)
            decodes.append(decode)
    print(
        json.dumps(
            [
                {
                    "prefill": statistics.median(row[0] / row[which] for row in prefills),
                    "decode": statistics.median(row[0] / row[which] for row in decodes),
                }
                for which in range(len(sessions))
            ]
        )
    )


if __name__ == "__main__":
    main()
