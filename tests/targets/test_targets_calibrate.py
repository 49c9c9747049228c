"""`edgeward targets calibrate`: a profile with measured rates, written where the user's stand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeward.errors import UsageError
from edgeward.targets.calibrate import Rates, calibrated, document, save
from edgeward.targets.calibration import measure_rates
from edgeward.targets.load import load
from edgeward.targets.plan.memory import sums_widen
from edgeward.targets.probe import probe
from edgeward.targets.write import render


def test_what_was_measured_is_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    text = render(document(probe(), Rates(1, 21_234_567_890.0, 96_876_543_210.0), "1 threads"))
    path = save("mine", text)
    hardware = load("mine").hardware
    assert path.parent == tmp_path / "edgeward" / "targets"
    assert hardware.memory_bandwidth_bytes_per_s == 21_200_000_000
    assert hardware.rate("fp32") == 96_800_000_000
    assert hardware.achieved == {"bandwidth": 1.0, "compute": 1.0}


@pytest.mark.parametrize(
    ("flags", "times", "widens"),
    [(["avx2", "avx_vnni"], 2.5, False), (["avx2", "fma"], 1.5, True)],
)
def test_integers_gain_by_what_the_processor_has(
    tmp_path: Path, flags: list[str], times: float, *, widens: bool
) -> None:
    here = replace(probe(), arch="x86_64", cpu_flags=tuple(flags))
    path = tmp_path / "mine.toml"
    path.write_text(render(document(here, Rates(1, 2e10, 1e11), "1 threads")))
    hardware = load(path).hardware
    assert hardware.rate("int8") == times * 1e11
    assert sums_widen(hardware) is widens


def test_rates_are_measured() -> None:
    found = measure_rates(read_bytes=1 << 20, square=32)
    assert found["bytes_per_s"] > 0
    assert found["operations_per_s"] > 0


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="is no name for a target"):
        calibrated("../mine")
