"""One bundle asked once, for `reality.py`. usage: asked.py BUNDLE CONTEXT PROMPT

Prints one JSON object. Times are of one thread and of the processor, so that what else runs on the
machine does not count: seconds until the first token of PROMPT tokens, seconds a token with CONTEXT
tokens behind it (the median of the steps). Memory is the process's peak in bytes.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

from edgeward.runtimes.session import load
from edgeward.runtimes.statistics.memory import peak_bytes

STEPS, PROMPTS = 24, 3
IDS = [100 + (number * 37) % 9000 for number in range(1 << 17)]


def main() -> None:
    """Ask and print."""
    bundle, context, prompt = sys.argv[1], *map(int, sys.argv[2:4])
    session = load(bundle, threads=1)
    graph = session.generator.graph
    first = min(timed(lambda: graph.start().next_logits(IDS[:prompt])) for _ in range(PROMPTS))
    state = graph.start()
    state.next_logits(IDS[: context - STEPS])
    steps = [timed(lambda: state.next_logits(IDS[:1]).argmax()) for _ in range(STEPS)]
    told = {"ttft_s": first, "tpot_s": statistics.median(steps), "peak_bytes": peak_bytes()}
    print(json.dumps(told))


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of processor time that a call takes in this process."""
    began = time.process_time()
    call()
    return time.process_time() - began


if __name__ == "__main__":
    main()
