"""Time a call again and again, and sum durations up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from edgeward.errors import UsageError

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
MAX_REPETITIONS = 10_000_000


@dataclass(frozen=True, slots=True)
class Measurement:
    """Latencies in ms, throughput in calls per second; percentiles by nearest rank.

    Nearest rank: the smallest measured value that at least p % of the values do not exceed, so
    that every figure is a latency that did occur. `iqr_ms` is p75 - p25.
    """

    repetitions: int
    mean_ms: float
    min_ms: float
    max_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    iqr_ms: float
    throughput_per_s: float

    def to_dict(self) -> dict[str, object]:
        """Return the figures as plain JSON-ready data."""
        return asdict(self)


def measure(
    call: Callable[[], object],
    *,
    warmup: int,
    repetitions: int,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Measurement:
    """Time `repetitions` calls one after another, after `warmup` calls that are not counted.

    `clock` returns nanoseconds. Whatever `call` raises comes through. Raises UsageError where a
    count is out of range.
    """
    if not 1 <= repetitions <= MAX_REPETITIONS:
        raise UsageError(f"repetitions must be between 1 and {MAX_REPETITIONS}")
    if not 0 <= warmup <= MAX_REPETITIONS:
        raise UsageError(f"warmup must be between 0 and {MAX_REPETITIONS}")
    for _ in range(warmup):
        call()
    durations = []
    for _ in range(repetitions):
        start = clock()
        call()
        durations.append(clock() - start)
    return summarise(durations)


def summarise(durations_ns: Sequence[int]) -> Measurement:
    """Return the figures of one or more durations in nanoseconds; ValueError for none."""
    ordered = sorted(durations_ns)
    if not ordered or ordered[0] < 0:
        raise ValueError("durations must be non-negative, and at least one")
    total = sum(ordered)
    # A clock too coarse to see the calls bounds the throughput from below.
    throughput = len(ordered) * NS_PER_S / max(total, 1)
    return Measurement(
        repetitions=len(ordered),
        mean_ms=total / len(ordered) / NS_PER_MS,
        min_ms=ordered[0] / NS_PER_MS,
        max_ms=ordered[-1] / NS_PER_MS,
        p50_ms=percentile(ordered, 50) / NS_PER_MS,
        p90_ms=percentile(ordered, 90) / NS_PER_MS,
        p95_ms=percentile(ordered, 95) / NS_PER_MS,
        p99_ms=percentile(ordered, 99) / NS_PER_MS,
        iqr_ms=(percentile(ordered, 75) - percentile(ordered, 25)) / NS_PER_MS,
        throughput_per_s=throughput,
    )


def percentile(ordered: Sequence[int], percent: int) -> int:
    """Return a percentile (1..100) of sorted values by nearest rank."""
    rank = math.ceil(percent * len(ordered) / 100)
    return ordered[max(rank, 1) - 1]
