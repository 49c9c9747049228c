"""What LiteRT's attention reaches here, in a process of its own.

`python -m edgeward.targets.calibration_litert THREADS` prints one JSON line, `Reached`: the share
of the bandwidth at which a token's attention reads all that its heads see of the cache. A decoder's
graph goes through every slot, writes them anew and copies them for each head: what that takes
depends on what the processor's caches hold. The decoder is written by
`benchmarks/plan/calibration_decoder.py`.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .calibration import Clock, bytes_per_s, usual_s
from .profile import Reached

if TYPE_CHECKING:
    from edgeward.runtimes.tasks.slots import SlottedState

DECODER = Path(__file__).parent / "calibration_graphs" / "decoder.tflite.gz"
# Its layers are so narrow that all they take is their attention's.
LAYERS, HEADS, CACHED, SIZE, CONTEXT = 2, 16, 4, 64, 1024
TURNS, TOKENS = 5, 9
_FLOAT = 4


def measure_kernels(threads: int) -> Reached:
    """Return what attention reaches of the bandwidth; EngineError where LiteRT is not there."""
    from edgeward.runtimes.engines.base import EngineOptions
    from edgeward.runtimes.engines.litert import open_model
    from edgeward.runtimes.engines.litert_decoder import LiteRTDecoder
    from edgeward.runtimes.tasks.slots import SlottedState

    clock = time.process_time if threads == 1 else time.perf_counter
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        path = Path(scratch) / "decoder.tflite"
        path.write_bytes(gzip.decompress(DECODER.read_bytes()))
        session = open_model(path, EngineOptions(threads=threads))
    assert isinstance(session, LiteRTDecoder)  # noqa: S101 - the file is ours
    state = SlottedState(session.slotted, {})
    return Reached(cache=statistics.median(_turn(state, clock) for _ in range(TURNS)))


def _turn(state: SlottedState, clock: Clock) -> float:
    seen = LAYERS * 2 * HEADS * SIZE * CONTEXT * _FLOAT
    speed = bytes_per_s(clock)
    return seen / usual_s(lambda: state.next_logits([0]), TOKENS, clock) / speed


if __name__ == "__main__":
    json.dump(asdict(measure_kernels(int(sys.argv[1]))), sys.stdout)
