"""The minimal benchmark harness: time a call, and record the machine that it was timed on."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeward.errors import UsageError

from .probe import probe
from .sysfs import clean, read_int, read_text

ROOT = Path("/")
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
MAX_REPETITIONS = 10_000_000
# Sensors that are absent or switched off report values like -256000 or 2147483647.
PLAUSIBLE_C = (-55.0, 200.0)


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


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Clock ticks since boot, over all cores: in total, and taken by the hypervisor for others."""

    total: int
    steal: int


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of a measurement; None where it does not say.

    `load_average` is the one-minute figure, `steal_percent` the share of CPU time that the
    hypervisor gave to others, `power_mode` a Jetson's nvpmodel mode id.
    """

    cpu_model: str
    cores: int
    governor: str | None
    load_average: float | None
    steal_percent: float | None
    temperature_c: float | None
    power_mode: str | None

    def to_dict(self) -> dict[str, object]:
        """Return the record as plain JSON-ready data."""
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


def cpu_times(root: Path = ROOT) -> CpuTimes | None:
    """Return /proc/stat's counters, to give to `machine` after a measurement."""
    found = re.match(r"cpu +([0-9 ]+)", read_text(root, "proc/stat") or "")
    ticks = [int(word[:20]) for word in found[1].split()] if found else []
    if len(ticks) < 8:
        return None
    # guest and guest_nice, the last two, are already counted in user and nice
    return CpuTimes(total=sum(ticks[:8]), steal=ticks[7])


def machine(root: Path = ROOT, *, since: CpuTimes | None = None) -> Machine:
    """Return the record of this machine; steal is since the given counters, else since boot."""
    here = probe(root, run=_ask_nobody)
    load = (read_text(root, "proc/loadavg") or "").split()
    return Machine(
        cpu_model=here.cpu_model,
        cores=here.cores,
        governor=clean(read_text(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), 40),
        load_average=_number(load[0]) if load else None,
        steal_percent=_steal(since or CpuTimes(0, 0), cpu_times(root)),
        temperature_c=temperature_c(root),
        power_mode=_power_mode(root),
    )


def temperature_c(root: Path = ROOT) -> float | None:
    """Return the hottest thermal zone in degrees Celsius, or None where no sensor answers."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    readings = [read_int(root, str(zone.relative_to(root) / "temp")) for zone in zones]
    degrees = [reading / 1000 for reading in readings if reading is not None]
    low, high = PLAUSIBLE_C
    return max((each for each in degrees if low < each < high), default=None)


def _ask_nobody(_command: Sequence[str]) -> str | None:
    return None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) else None


def _steal(before: CpuTimes, after: CpuTimes | None) -> float | None:
    if after is None or after.total <= before.total:
        return None
    return 100.0 * max(0, after.steal - before.steal) / (after.total - before.total)


def _power_mode(root: Path) -> str | None:
    found = re.search(r"pmode:0*([0-9]{1,4})\b", read_text(root, "var/lib/nvpmodel/status") or "")
    return found[1] if found else None
