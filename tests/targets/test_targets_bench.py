"""The benchmark harness, on a clock of our own."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeward.errors import UsageError
from edgeward.targets.bench.host import CpuTimes, cpu_times, machine, temperature_c
from edgeward.targets.bench.latencies import measure, summarise

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def clock_of(durations_ms: list[int]) -> Callable[[], int]:
    """A clock that shows one duration after another, with time passing between the calls."""
    ticks: list[int] = []
    now = 1000
    for duration in durations_ms:
        ticks += [now, now + duration * 1_000_000]
        now += duration * 1_000_000 + 777
    return iter(ticks).__next__


def test_figures_are_those_of_the_durations() -> None:
    durations = list(range(1, 101))
    figures = measure(lambda: None, warmup=0, repetitions=100, clock=clock_of(durations))
    assert (figures.p50_ms, figures.p90_ms, figures.p95_ms, figures.p99_ms) == (50, 90, 95, 99)
    assert (figures.min_ms, figures.max_ms, figures.mean_ms) == (1, 100, 50.5)
    assert figures.iqr_ms == 50
    assert figures.throughput_per_s == pytest.approx(100 / 5.05)
    assert figures.repetitions == 100


def test_percentiles_are_nearest_rank() -> None:
    figures = summarise([15_000_000, 20_000_000, 35_000_000, 40_000_000, 50_000_000])
    assert (figures.p50_ms, figures.p90_ms) == (35, 50)
    assert figures.iqr_ms == 40 - 20
    assert summarise([7_000_000]).p50_ms == 7


def test_warm_up_is_called_and_not_counted() -> None:
    calls: list[int] = []
    figures = measure(lambda: calls.append(1), warmup=3, repetitions=2, clock=clock_of([4, 6]))
    assert len(calls) == 5
    assert figures.mean_ms == 5


def test_what_the_call_raises_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        measure(lambda: 1 // 0, warmup=0, repetitions=1)


@pytest.mark.parametrize(("warmup", "repetitions"), [(0, 0), (-1, 1), (0, -5), (0, 10**9)])
def test_counts_out_of_range_are_refused(warmup: int, repetitions: int) -> None:
    with pytest.raises(UsageError):
        measure(lambda: None, warmup=warmup, repetitions=repetitions)


def test_no_durations_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        summarise([])


@QUIET
@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=50))
def test_figures_are_ordered_and_finite(durations: list[int]) -> None:
    figures = summarise(durations)
    ordered = [figures.min_ms, figures.p50_ms, figures.p90_ms, figures.p95_ms, figures.p99_ms]
    assert sorted(ordered) == ordered
    assert figures.p99_ms <= figures.max_ms
    assert figures.p50_ms in {each / 1_000_000 for each in durations}
    assert all(math.isfinite(float(str(value))) for value in figures.to_dict().values())


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_machine_is_recorded(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/cpuinfo": "processor : 0\nmodel name : A CPU\n\nprocessor : 1\n",
            "proc/loadavg": "0.52 0.58 0.59 1/467 12345\n",
            "proc/stat": "cpu  100 0 50 800 0 0 0 50 10 0\ncpu0 1 2 3\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
            "sys/class/thermal/thermal_zone0/temp": "48250\n",
            "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
        },
    )
    here = machine(root)
    assert (here.cpu_model, here.cores, here.governor) == ("A CPU", 2, "performance")
    assert (here.load_average, here.steal_percent) == (0.52, 5.0)
    assert (here.temperature_c, here.power_mode) == (48.25, "2")
    assert machine(root, since=CpuTimes(total=900, steal=10)).steal_percent == 40.0
    assert cpu_times(root) == CpuTimes(total=1000, steal=50)


def test_a_silent_machine_is_recorded_as_unknown(tmp_path: Path) -> None:
    here = machine(tmp_path)
    assert (here.governor, here.load_average, here.steal_percent) == (None, None, None)
    assert (here.temperature_c, here.power_mode) == (None, None)


def test_the_hottest_plausible_zone_is_taken(tmp_path: Path) -> None:
    zones = ["48250", "61500", "-256000", "2147483647", "", "garbage"]
    files = {f"sys/class/thermal/thermal_zone{i}/temp": text for i, text in enumerate(zones)}
    assert temperature_c(tree(tmp_path, files)) == 61.5


def test_no_zone_is_no_temperature(tmp_path: Path) -> None:
    assert temperature_c(tmp_path) is None
