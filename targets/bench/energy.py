"""Energy where the machine counts it: RAPL's counters, or a Jetson's power monitors.

RAPL (`/sys/class/powercap/intel-rapl:*`, Intel and AMD) counts microjoules of each package and
begins at 0 again behind `max_energy_range_uj`. A Jetson's INA3221 tells millivolts and
milliamperes of each rail; the rail of the whole board is the one that tegrastats prints as VDD_IN
(older boards: 5V_IN). What is not there, or not readable (RAPL is for root alone since
CVE-2020-8694), is no energy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edgeward.targets.sysfs import read_int, read_text

RAPL = "sys/class/powercap"
INA = "sys/bus/i2c/drivers/ina3221"
BOARD_RAILS = ("VDD_IN", "POM_5V_IN", "5V_IN", "SYS_5V0", "VDD_TOTAL")
_MOST_RAILS = 8


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules since the meter began, and what counted them."""

    joules: float
    source: str


@dataclass(slots=True)
class Meter:
    """Counts energy while it is sampled often enough: RAPL within each wrap, power in between.

    `now` returns nanoseconds; `sample` is cheap and may be called at any time.
    """

    root: Path
    now: Callable[[], int]
    _counters: dict[str, int] = field(default_factory=dict)
    _micro: float = 0.0
    _rail: str | None = None
    _watts: float | None = None
    _sampled: int = 0

    def begin(self) -> None:
        """Forget what was counted and look for what counts."""
        self._counters = _rapl_counters(self.root)
        self._micro, self._sampled = 0.0, self.now()
        self._rail = None if self._counters else _board_rail(self.root)
        self._watts = _watts(self.root, self._rail) if self._rail else None

    def sample(self) -> None:
        """Add what came since the last sample."""
        moment = self.now()
        if self._counters:
            self._add_counters()
        elif self._rail is not None:
            self._add_power(moment)
        self._sampled = moment

    def end(self) -> Energy | None:
        """Return what was counted up to now, None where nothing counts."""
        self.sample()
        if self._counters:
            return Energy(self._micro / 1e6, "rapl")
        if self._rail is not None and self._watts is not None:
            return Energy(self._micro / 1e6, "ina3221")
        return None

    def _add_counters(self) -> None:
        found = _rapl_counters(self.root)
        if set(found) != set(self._counters):
            self._counters = {}
            return
        for zone, value in found.items():
            grown = value - self._counters[zone]
            if grown < 0:
                grown += read_int(self.root, f"{RAPL}/{zone}/max_energy_range_uj") or 0
            self._micro += max(grown, 0)
        self._counters = found

    def _add_power(self, moment: int) -> None:
        watts = _watts(self.root, self._rail or "")
        if watts is not None and self._watts is not None:
            # Trapezoid: microjoules are microwatts times seconds.
            self._micro += (watts + self._watts) / 2 * (moment - self._sampled) / 1e3
        self._watts = watts if watts is not None else self._watts


def _rapl_counters(root: Path) -> dict[str, int]:
    """The packages' counters by zone; parts of a package and the whole platform are left out."""
    found = {}
    for zone in sorted((root / RAPL).glob("intel-rapl:[0-9]*")):
        name = read_text(root, f"{RAPL}/{zone.name}/name") or ""
        value = read_int(root, f"{RAPL}/{zone.name}/energy_uj")
        if zone.name.count(":") == 1 and name.startswith("package") and value is not None:
            found[zone.name] = value
    return found


def _board_rail(root: Path) -> str | None:
    """The path of the board's rail up to its number, as `.../hwmon0/` and `1`, joined by a bar."""
    rails: dict[str, str] = {}
    for monitor in sorted((root / INA).glob("*/hwmon/hwmon*")):
        place = monitor.relative_to(root).as_posix()
        for number in range(1, _MOST_RAILS + 1):
            label = read_text(root, f"{place}/in{number}_label")
            if label:
                rails.setdefault(label, f"{place}|{number}")
    return next((rails[name] for name in BOARD_RAILS if name in rails), None)


def _watts(root: Path, rail: str) -> float | None:
    place, _, number = rail.partition("|")
    millivolts = read_int(root, f"{place}/in{number}_input")
    milliamperes = read_int(root, f"{place}/curr{number}_input")
    if millivolts is None or milliamperes is None:
        return None
    return millivolts * milliamperes / 1e6
