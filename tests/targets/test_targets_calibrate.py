"""`edgeward targets calibrate`: a profile with measured rates, written where the user's stand."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
from documents import ROOT
from hypothesis import given
from hypothesis import strategies as st
from llama_here import llama_here

from edgeward.compiler.recipe import RECIPES
from edgeward.errors import ProfileError, UsageError
from edgeward.runtimes.bundle.gguf_header import read_header
from edgeward.targets import calibration_llama, calibration_onnxruntime
from edgeward.targets.calibrate import SCRIPTS, Rates, calibrated, document, measure_kernels, save
from edgeward.targets.calibration import measure_rates
from edgeward.targets.calibration_onnxruntime import GRAPHS, LAYERS
from edgeward.targets.load import load
from edgeward.targets.plan.gguf_mix import BLOCKS, MIXES
from edgeward.targets.plan.memory import sums_widen
from edgeward.targets.present import show_rows
from edgeward.targets.probe import probe
from edgeward.targets.profile import Reached
from edgeward.targets.write import render, to_toml


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


def test_what_kernels_reach_is_written_and_read(tmp_path: Path) -> None:
    reached = Reached(
        0.1234, {"fp32": 0.07, "int8-dynamic": 0.2}, {"fp32": 0.9, "int8-dynamic": 1.8}, 0.25
    )
    here = replace(probe(), arch="x86_64", cpu_flags=("avx2", "fma"))
    path = tmp_path / "mine.toml"
    path.write_text(
        render(document(here, Rates(1, 2e10, 1e11), "1 threads", {"onnxruntime": reached}))
    )
    profile = load(path)
    found = profile.hardware.kernels["onnxruntime"]
    assert (found.attention, found.cache) == (0.123, 0.25)
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
        (f"token = {{ fp32 = 0.5 }}{CITED}", "attention"),
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


def test_the_graphs_are_what_their_script_writes() -> None:
    script = ROOT / "benchmarks" / "plan" / "calibration_graphs.py"
    spec = importlib.util.spec_from_file_location("calibration_graphs", script)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    files = {path.stem: path.read_bytes() for path in GRAPHS.iterdir()}
    assert files == module.graphs()


def plausible(shares: Mapping[str, float]) -> bool:
    return all(0 < share < 16 for share in shares.values())


@pytest.mark.slow
def test_kernels_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TURNS", "TOKENS", "PROMPTS"):
        monkeypatch.setattr(calibration_onnxruntime, name, 1)
    found = calibration_onnxruntime.measure_kernels(1)
    assert set(found.token) == set(found.prompt) == set(LAYERS)
    assert plausible({**found.token, "attention": found.attention})
    assert plausible(found.prompt)
    assert found.token["fp32"] < found.prompt["fp32"]


@pytest.mark.slow
def test_llama_cpps_kernels_are_measured_by_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of types that are mapped, packed anew, and computed in float32."""
    llama_here(tmp_path / "llama")
    for name, value in (("TURNS", 1), ("TOKENS", 1), ("TYPES", ("f32", "q4_0", "q6_k"))):
        monkeypatch.setattr(calibration_llama, name, value)
    found = calibration_llama.measure_kernels(1)
    assert set(found.token) == set(found.prompt) == {"f32", "q4_0", "q6_k"}
    assert plausible(found.token)
    assert plausible(found.prompt)
    # The difference of two tokens, one beside the other: beside other programs it is any number.
    assert found.attention > 0


@given(st.floats(0.01, 0.5), st.floats(0.05, 4.0))
def test_attention_is_told_by_what_it_computes_and_what_it_reads(
    attention: float, cache: float
) -> None:
    """Of heads that share a cache and of such that have one each, both in a second."""
    shapes = [(0.1, 0.9), (0.5, 0.5), (0.8, 0.3), (0.9, 0.1)]
    times = [computing / attention + reading / cache for computing, reading in shapes]
    seen = [
        calibration_llama.Looked(computing / time, reading / time)
        for (computing, reading), time in zip(shapes, times, strict=True)
    ]
    found = calibration_llama.shares_of(seen, 0.5)
    assert found == pytest.approx((attention, cache), rel=1e-3)


def test_attention_computes_no_faster_than_a_prompt_does() -> None:
    alike = [calibration_llama.Looked(0.001, 0.5), calibration_llama.Looked(0.002, 0.5)]
    attention, cache = calibration_llama.shares_of(alike, 0.5)
    assert attention == 0.5
    assert cache == pytest.approx(0.5, rel=0.02)


def test_attention_that_waits_for_no_memory_reads_at_any_speed() -> None:
    alike = [calibration_llama.Looked(0.1, 0.1), calibration_llama.Looked(0.1, 0.9)]
    uneven = [calibration_llama.Looked(0.1, 0.9), calibration_llama.Looked(0.2, 0.1)]
    for seen in (alike, uneven):
        attention, cache = calibration_llama.shares_of(seen, 0.5)
        assert 0 < attention <= 0.5
        assert 0 < cache <= 16


def test_llama_cpps_kernels_are_those_of_the_mixes_that_recipes_make() -> None:
    gguf = [recipe.precision for recipe in RECIPES.values() if recipe.format == "gguf"]
    made = {MIXES[precision] for precision in gguf if precision in MIXES}
    assert {"q4_k", "iq2_xxs"} <= made <= set(calibration_llama.TYPES) <= set(BLOCKS)


@pytest.mark.parametrize("kind", ["f16", "q4_k", "iq4_xs"])
def test_a_blank_file_is_a_gguf_file(tmp_path: Path, kind: str) -> None:
    model = calibration_llama.products_of(kind)
    path = tmp_path / "blank.gguf"
    model.write(path)
    header = read_header(path)
    in_layers = [
        one for one in header.tensors if one.type_name == kind.upper() and "blk" in one.name
    ]
    assert header.architecture == "llama"
    assert sum(prod(one.shape) for one in in_layers) == model.multiplied
    assert path.stat().st_size >= sum(one.size for one in header.tensors)
    assert path.stat().st_blocks * 512 < 1 << 20


def test_rates_are_measured() -> None:
    found = measure_rates(read_bytes=1 << 20, square=32)
    assert found["bytes_per_s"] > 0
    assert found["operations_per_s"] > 0


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="is no name for a target"):
        calibrated("../mine")
