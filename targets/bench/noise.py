"""How noisy a run was, and when it is too noisy to be believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeward.targets.sysfs import read_int

from .host import ROOT, Machine

# A spread of a tenth of the median hides what most changes bring.
MOST_IQR_PERCENT = 10.0
MOST_STEAL_PERCENT = 2.0
MOST_WARMING_C = 10.0
_THROTTLES = "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"


@dataclass(frozen=True, slots=True)
class Noise:
    """`iqr_percent` is the interquartile range over the median; `warnings` say what is too much."""

    iqr_percent: float
    steal_percent: float | None
    warnings: tuple[str, ...]

    @property
    def noisy(self) -> bool:
        """Whether anything is too much."""
        return bool(self.warnings)


def noise_of(
    iqr_ms: float,
    p50_ms: float,
    before: Machine,
    after: Machine,
    *,
    others: float | None = None,
    throttled: int = 0,
    stable: bool = True,
) -> Noise:
    """Judge a run; `others` is how many processes wanted a core at its begin beside this one."""
    spread = 100 * iqr_ms / p50_ms if p50_ms > 0 else 0.0
    found = _warnings(spread, before, after, others, throttled, stable)
    return Noise(spread, after.steal_percent, tuple(found))


def throttle_count(root: Path = ROOT) -> int:
    """Return how often the processor has throttled since boot, 0 where it does not say."""
    return read_int(root, _THROTTLES) or 0


def _warnings(
    spread: float,
    before: Machine,
    after: Machine,
    others: float | None,
    throttled: int,
    stable: bool,
) -> Iterator[str]:
    if spread > MOST_IQR_PERCENT:
        yield f"the interquartile range is {spread:.0f} % of the median"
    steal = after.steal_percent
    if steal is not None and steal > MOST_STEAL_PERCENT:
        yield f"the hypervisor gave {steal:.1f} % of the time to others"
    if others is not None and others >= max(before.cores, 1) / 2:
        yield f"{others:.1f} processes wanted {before.cores} cores before it began"
    if throttled > 0:
        yield f"the processor throttled {throttled} times"
    if before.temperature_c is not None and after.temperature_c is not None:
        warmed = after.temperature_c - before.temperature_c
        if warmed > MOST_WARMING_C:
            yield f"it warmed by {warmed:.0f} degrees"
    if (before.power_mode, before.governor) != (after.power_mode, after.governor):
        yield "the power mode or governor changed"
    if not stable:
        yield "the warm-up did not become stable"
