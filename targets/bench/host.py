"""The machine of a measurement, as it says itself: load, steal, temperature, power mode."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeward.targets.probe import probe
from edgeward.targets.sysfs import clean, read_int, read_text

ROOT = Path("/")
# Sensors that are absent or switched off report values like -256000 or 2147483647.
PLAUSIBLE_C = (-55.0, 200.0)


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
