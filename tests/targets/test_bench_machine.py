"""Energy, noise and memory from trees of files that stand for machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeward.targets.bench.child import available_bytes
from edgeward.targets.bench.energy import INA, RAPL, Meter
from edgeward.targets.bench.host import Machine
from edgeward.targets.bench.noise import noise_of, throttle_count

CALM = Machine("A CPU", 4, "performance", 0.2, 0.0, 45.0, "2")
SECOND = 1_000_000_000
WRAP = 262_143_328_850


class Board:
    """A machine's files, and a clock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.moment = 5 * SECOND

    def now(self) -> int:
        return self.moment

    def put(self, path: str, text: object) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")

    def package(self, zone: str, name: str, microjoules: int) -> None:
        self.put(f"{RAPL}/{zone}/name", name)
        self.put(f"{RAPL}/{zone}/energy_uj", microjoules)
        self.put(f"{RAPL}/{zone}/max_energy_range_uj", WRAP)

    def rail(self, number: int, label: str, millivolts: int, milliamperes: int) -> None:
        place = f"{INA}/1-0040/hwmon/hwmon3"
        self.put(f"{place}/in{number}_label", label)
        self.put(f"{place}/in{number}_input", millivolts)
        self.put(f"{place}/curr{number}_input", milliamperes)

    def meter(self) -> Meter:
        meter = Meter(self.root, self.now)
        meter.begin()
        return meter


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_packages_are_added_up_and_their_parts_are_not(board: Board) -> None:
    board.package("intel-rapl:0", "package-0", 1_000_000)
    board.package("intel-rapl:1", "package-1", 500)
    board.package("intel-rapl:0:0", "core", 900_000)
    board.package("intel-rapl:2", "psys", 7_000_000)
    meter = board.meter()
    board.package("intel-rapl:0", "package-0", 3_500_000)
    board.package("intel-rapl:1", "package-1", 1_000_500)
    board.package("intel-rapl:0:0", "core", 9_900_000)
    board.package("intel-rapl:2", "psys", 70_000_000)
    energy = meter.end()
    assert energy is not None
    assert (energy.joules, energy.source) == (3.5, "rapl")


def test_a_counter_that_begins_again_is_followed(board: Board) -> None:
    board.package("intel-rapl:0", "package-0", WRAP - 1_000_000)
    meter = board.meter()
    board.package("intel-rapl:0", "package-0", 2_000_000)
    meter.sample()
    board.package("intel-rapl:0", "package-0", 4_000_000)
    energy = meter.end()
    assert energy is not None
    assert energy.joules == pytest.approx(5.0)


def test_a_counter_that_goes_away_is_no_energy(board: Board) -> None:
    board.package("intel-rapl:0", "package-0", 10)
    meter = board.meter()
    (board.root / RAPL / "intel-rapl:0" / "energy_uj").unlink()
    meter.sample()
    assert meter.end() is None


def test_the_boards_rail_is_integrated(board: Board) -> None:
    board.rail(1, "VDD_IN", 5000, 1000)
    board.rail(2, "VDD_CPU_GPU_CV", 5000, 9000)
    meter = board.meter()
    board.moment += 2 * SECOND
    board.rail(1, "VDD_IN", 5000, 3000)
    meter.sample()
    board.moment += SECOND
    energy = meter.end()
    # a ramp from 5 to 15 W in two seconds, then one second of 15 W
    assert energy is not None
    assert energy.joules == pytest.approx(20 + 15)
    assert energy.source == "ina3221"


def test_a_part_of_the_board_alone_is_no_energy_of_it(board: Board) -> None:
    board.rail(1, "VDD_CPU_GPU_CV", 5000, 9000)
    assert board.meter().end() is None


@pytest.mark.parametrize("text", ["", "garbage"])
def test_counters_that_say_nothing_are_no_energy(board: Board, text: str) -> None:
    board.put(f"{RAPL}/intel-rapl:0/name", "package-0")
    board.put(f"{RAPL}/intel-rapl:0/energy_uj", text)
    assert board.meter().end() is None


def test_a_calm_run_has_no_warnings() -> None:
    noise = noise_of(0.5, 10.0, CALM, CALM, others=0.2)
    assert (noise.iqr_percent, noise.noisy) == (5.0, False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"iqr_ms": 2.0}, "interquartile range is 20 %"),
        ({"after": replace(CALM, steal_percent=7.5)}, "7.5 %"),
        ({"others": 2.0}, "2.0 processes"),
        ({"throttled": 3}, "throttled 3 times"),
        ({"after": replace(CALM, temperature_c=70.0)}, "warmed by 25"),
        ({"after": replace(CALM, power_mode="0")}, "power mode"),
        ({"after": replace(CALM, governor="powersave")}, "governor"),
        ({"stable": False}, "warm-up"),
    ],
)
def test_each_kind_of_noise_has_its_warning(change: dict[str, object], words: str) -> None:
    given = {"iqr_ms": 0.1, "p50_ms": 10.0, "before": CALM, "after": CALM, "others": 0.0}
    noise = noise_of(**{**given, **change})  # type: ignore[arg-type]
    assert len(noise.warnings) == 1
    assert words in noise.warnings[0]


def test_a_machine_that_says_nothing_is_not_called_noisy() -> None:
    silent = Machine("", 0, None, None, None, None, None)
    assert not noise_of(0.1, 10.0, silent, silent).noisy


def test_throttling_is_counted_where_it_is_told(board: Board) -> None:
    assert throttle_count(board.root) == 0
    board.put("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", 12)
    assert throttle_count(board.root) == 12


def test_free_memory_is_what_the_kernel_says(board: Board) -> None:
    unknown = available_bytes(board.root)
    board.put("proc/meminfo", "MemTotal: 16000 kB\nMemAvailable:  8000 kB")
    assert available_bytes(board.root) == 8000 * 1024
    assert unknown == 2 * 2**30
