"""`edgeward targets calibrate`: a profile with measured rates, written where the user's stand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from documents import ROOT

from edgeward.errors import ProfileError, UsageError
from edgeward.targets.calibrate import SCRIPTS, Rates, calibrated, document, measure_kernels
from edgeward.targets.calibration import measure_rates
from edgeward.targets.destination import destination, put
from edgeward.targets.load import load
from edgeward.targets.plan.memory import sums_widen
from edgeward.targets.present import show_rows
from edgeward.targets.probe import probe
from edgeward.targets.profile import Reached
from edgeward.targets.write import render, to_toml


def test_what_was_measured_is_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    text = render(document(probe(), Rates(1, 21_234_567_890.0, 96_876_543_210.0), "1 threads"))
    path = destination("mine", None)
    assert path is not None
    put(text, path)
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


def test_what_kernels_reach_is_written_and_read(tmp_path: Path) -> None:
    reached = Reached(
        0.1234, {"fp32": 0.07, "int8-dynamic": 0.2}, {"fp32": 0.9, "int8-dynamic": 1.8}, 0.25
    )
    kernels = {"onnxruntime": reached, "litert": Reached(cache=0.5)}
    here = replace(probe(), arch="x86_64", cpu_flags=("avx2", "fma"))
    path = tmp_path / "mine.toml"
    path.write_text(render(document(here, Rates(1, 2e10, 1e11), "1 threads", kernels)))
    profile = load(path)
    found = profile.hardware.kernels["onnxruntime"]
    assert (found.attention, found.cache) == (0.123, 0.25)
    assert profile.hardware.kernels["litert"] == Reached(cache=0.5)
    assert found.token == reached.token
    assert found.prompt == {"fp32": 0.9, "int8-dynamic": pytest.approx(1.8 / 1.5)}
    again = tmp_path / "again.toml"
    again.write_text(to_toml(profile))
    assert load(again).hardware == profile.hardware
    keys = {str(row["key"]): row for row in show_rows(profile)}
    assert keys["hardware.kernels.onnxruntime.token.int8-dynamic"]["value"] == 0.2
    assert "ONNX Runtime" in str(keys["hardware.kernels.onnxruntime.attention"]["source"])


@pytest.mark.parametrize("engine", SCRIPTS)
def test_a_machine_without_an_engine_is_calibrated_all_the_same(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    missing = replace(SCRIPTS[engine], needs="not_there")
    monkeypatch.setattr("edgeward.targets.calibrate.SCRIPTS", {engine: missing})
    monkeypatch.setattr("edgeward.targets.calibrate.measure", lambda _: Rates(1, 2e10, 1e11))
    assert measure_kernels(engine, 1) is None
    text, said = calibrated("mine", 1)
    assert f"{missing.title} is not installed (edgeward[{missing.extra}])" in said
    assert f"\n{missing.extra} = [" in (ROOT / "pyproject.toml").read_text()
    assert "hardware.kernels" not in text


def test_a_machine_that_cannot_hold_the_models_is_calibrated_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = {"onnxruntime": replace(SCRIPTS["onnxruntime"], script="not_there")}
    monkeypatch.setattr("edgeward.targets.calibrate.measure", lambda _: Rates(1, 2e10, 1e11))
    monkeypatch.setattr("edgeward.targets.calibrate.SCRIPTS", broken)
    text, said = calibrated("mine", 1)
    assert "kernels could not be measured" in said
    assert "hardware.kernels" not in text


@pytest.mark.parametrize(
    ("attention", "token", "taken"), [(0.1, 0.1, True), (9.0, 0.1, False), (0.1, 2.4, False)]
)
def test_what_no_processor_does_is_not_written(
    monkeypatch: pytest.MonkeyPatch, attention: float, token: float, *, taken: bool
) -> None:
    reached = Reached(attention, {"fp32": token}, {"fp32": 0.9})
    monkeypatch.setattr("edgeward.targets.calibrate.measure", lambda _: Rates(1, 2e10, 1e11))
    monkeypatch.setattr("edgeward.targets.calibrate.measure_kernels", lambda *_: reached)
    text, said = calibrated("mine", 1)
    assert ("hardware.kernels" in text) is taken
    assert ("others use the processor" in said) is not taken


CITED = '\n[sources]\n"hardware.kernels" = "a test"\n'


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        (f"attention = 17.0{CITED}", "attention must be between"),
        (f"speed = 0.5{CITED}", "speed is not a key"),
        (f"attention = 0.1\ntoken = {{ fp32 = 0 }}{CITED}", "token.fp32 must be between"),
        (f"attention = 0.1\ncache = 17.0{CITED}", "cache must be between"),
        ("attention = 0.1", "is a number without a source"),
    ],
)
def test_kernels_that_cannot_be_are_refused(tmp_path: Path, lines: str, key: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "x86-64-cpu"\n[hardware.kernels.onnxruntime]\n{lines}\n')
    with pytest.raises(ProfileError, match=key):
        load(path)


def test_rates_are_measured() -> None:
    found = measure_rates(read_bytes=1 << 20, square=32)
    assert found["bytes_per_s"] > 0
    assert found["operations_per_s"] > 0


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="is no name for a target"):
        calibrated("../mine")
