"""What numpy's kernels reach here, in a process of its own: `python -m …calibration`.

The number of threads is fixed by the environment before numpy is imported, so each count takes
a process. Prints one JSON line: bytes per second read, float32 operations per second. One thread is
timed by the processor's clock, which leaves out what other programs took; several by the wall's.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

READ_BYTES = 256 * 2**20
SQUARE = 1024
REPETITIONS = 15
# How many tokens a prompt has that an engine's kernels are timed with.
PROMPT_ROWS = 128

Clock = Callable[[], float]


def best_s(
    call: Callable[[], object], repetitions: int = REPETITIONS, clock: Clock = time.perf_counter
) -> float:
    """Return the seconds of the fastest of some calls, after one that warms up."""
    return max(min(each_s(call, repetitions, clock)), 1e-9)


def each_s(call: Callable[[], object], repetitions: int, clock: Clock) -> list[float]:
    """Return the seconds of each of some calls, after one that warms up."""
    call()
    durations = []
    for _ in range(repetitions):
        start = clock()
        call()
        durations.append(clock() - start)
    return durations


def usual_s(call: Callable[[], object], repetitions: int, clock: Clock) -> float:
    """Return the seconds of the median call, after one that warms up.

    Of the fastest by a clock that counts what other programs take meanwhile.
    """
    pick = min if clock is time.perf_counter else statistics.median
    return max(pick(each_s(call, repetitions, clock)), 1e-9)


def measure_rates(
    read_bytes: int = READ_BYTES, square: int = SQUARE, threads: int = 0
) -> dict[str, float]:
    """Return what is reached: a matrix times a vector reads, one times a matrix computes."""
    clock = time.process_time if threads == 1 else time.perf_counter
    return {
        "bytes_per_s": bytes_per_s(clock, read_bytes),
        "operations_per_s": operations_per_s(clock, square),
    }


def bytes_per_s(clock: Clock, read_bytes: int = READ_BYTES) -> float:
    """Return what is read; so many bytes are far beyond any cache, as a model's weights are."""
    import numpy as np

    columns = 4096
    weights = np.ones((max(1, read_bytes // (4 * columns)), columns), np.float32)
    vector, out = np.ones(columns, np.float32), np.empty(len(weights), np.float32)
    return weights.nbytes / best_s(lambda: np.dot(weights, vector, out=out), clock=clock)


def operations_per_s(clock: Clock, square: int = SQUARE, repetitions: int = REPETITIONS) -> float:
    """Return what is computed; a square of 1024 is what a prompt's products look like."""
    import numpy as np

    left = np.ones((square, square), np.float32)
    product = np.empty_like(left)
    return 2 * square**3 / best_s(lambda: np.dot(left, left, out=product), repetitions, clock)


if __name__ == "__main__":
    json.dump(measure_rates(threads=int(sys.argv[1])), sys.stdout)
