"""What measures engines' kernels: its graphs, its blank files, what it makes of times."""

from __future__ import annotations

import importlib.util
import lzma
from collections.abc import Mapping
from math import prod
from pathlib import Path

import pytest
from documents import ROOT
from hypothesis import given
from hypothesis import strategies as st
from llama_here import llama_here

from edgeward.compiler.progress import NullReporter
from edgeward.compiler.recipe import RECIPES
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.runtimes.bundle.gguf_header import read_header
from edgeward.runtimes.engines.litert_file import read_tflite
from edgeward.runtimes.engines.litert_slots import layout_of
from edgeward.targets import calibration_litert as litert
from edgeward.targets import calibration_llama, calibration_onnxruntime
from edgeward.targets.calibrate import measure_kernels
from edgeward.targets.calibration import PROMPT_ROWS
from edgeward.targets.calibration_onnxruntime import GRAPHS, LAYERS
from edgeward.targets.plan.gguf_mix import BLOCKS, MIXES


def test_the_graphs_are_what_their_script_writes() -> None:
    script = ROOT / "benchmarks" / "plan" / "calibration_graphs.py"
    spec = importlib.util.spec_from_file_location("calibration_graphs", script)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    files = {path.stem: path.read_bytes() for path in GRAPHS.glob("*.onnx")}
    assert files == module.graphs()


def plausible(shares: Mapping[str, float]) -> bool:
    return all(0 < share < 16 for share in shares.values())


@pytest.mark.slow
def test_kernels_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TURNS", "TOKENS", "PROMPTS"):
        monkeypatch.setattr(calibration_onnxruntime, name, 1)
    found = calibration_onnxruntime.measure_kernels(1)
    assert set(found.token) == set(found.held) == set(found.prompt) == set(LAYERS)
    assert plausible({**found.token, "attention": found.attention})
    assert plausible(found.held)
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
    assert set(found.token) == set(found.held) == set(found.prompt) == {"f32", "q4_0", "q6_k"}
    assert plausible(found.token)
    assert plausible(found.held)
    assert plausible(found.prompt)
    # The difference of two tokens, one beside the other: beside other programs it is any number.
    assert found.attention > 0
    assert (found.attention_held or 0) > 0


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


@pytest.mark.parametrize("name", [*litert.ATTENTION, *litert.PRODUCTS])
def test_a_decoder_has_the_sizes_that_are_counted(tmp_path: Path, name: str) -> None:
    decoder = {**litert.ATTENTION, **litert.PRODUCTS}[name]
    path = tmp_path / "decoder.tflite"
    path.write_bytes(lzma.decompress(litert.file_of(name).read_bytes()))
    told = read_tflite(path)
    layout = layout_of(told)
    assert layout is not None
    assert layout.context == decoder.context
    assert len(layout.cache) == 2 * decoder.layers
    assert set(layout.cache.values()) == {(1, decoder.cached, decoder.context, decoder.size)}
    assert sorted(layout.calls) == [1, PROMPT_ROWS]
    assert litert.file_of(name).stat().st_size < 128 * 1024
    one = next(each for each in told.signatures if each.name == layout.calls[1].name)
    graph = told.graphs[one.graph]
    multiplied = (
        graph.tensors[operator.inputs[1]]
        for operator in graph.operators
        if operator.name == "FULLY_CONNECTED"
    )
    assert sum(prod(each.shape) for each in multiplied) == decoder.multiplied


@pytest.mark.parametrize(("seen", "written"), [(4.0, 5.0), (0.5, 0.25), (3.0, 0.0)])
def test_what_heads_see_is_told_from_what_is_written(seen: float, written: float) -> None:
    shares = litert.shares_of(seen + written / 4, seen / 2 + written / 4, seen + written)
    assert shares[:2] == pytest.approx((1 / seen, 2 / seen))
    assert shares[2] == (pytest.approx(1 / written) if written else None)


def test_noise_leaves_shares_that_a_profile_may_have() -> None:
    assert litert.shares_of(3.0, 2.0, 2.5) == (1 / 3.0, 1 / 2.0, None)
    cache, near, written = litert.shares_of(1.0, 1.2, 20.0)
    assert written is not None
    assert all(0 < share <= 16 for share in (cache, near, written))


@pytest.mark.slow
def test_litert_s_attention_and_products_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    python = Toolchains().ensure("litert-runtime", NullReporter()).python
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    found = measure_kernels("litert", 1, str(python))
    assert found is not None
    assert found.attention is None
    assert found.cache is not None
    assert 0 < found.cache < 4
    assert set(found.token) == set(found.prompt) == {*litert.PRODUCTS, "int8-weights"}
    for precision, share in found.token.items():
        assert 0 < share < found.prompt[precision] < 16
    assert found.token["int8-dynamic"] > found.token["fp32"], "a quarter is read"
