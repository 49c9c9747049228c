"""The planner beside published figures: the page is what the data say; the rules they needed."""

from __future__ import annotations

import importlib.util
import json
import re
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from urllib.parse import urlparse

import pytest
from documents import ROOT

from edgeward.targets.load import load
from edgeward.targets.plan.engines import KERNELS, cost_of
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.gather import facts_of
from edgeward.targets.plan.kernels import Kernel
from edgeward.targets.plan.latency import prompt_s, speed_of
from edgeward.targets.plan.precision import weights_of
from edgeward.targets.plan.predict import Prediction, plan_model
from edgeward.targets.profile import Engine, Profile, Recipe

CONFIGS = Path(__file__).parent / "plan" / "configs"


@pytest.fixture(scope="module")
def published() -> ModuleType:
    """The benchmark's script as a module."""
    path = ROOT / "benchmarks" / "plan" / "published.py"
    spec = importlib.util.spec_from_file_location("published", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["published"] = module
    spec.loader.exec_module(module)
    return module


def facts(model: str) -> ModelFacts:
    document = json.loads((CONFIGS / f"{model}.json").read_text())
    return facts_of(document["config"], name=model)


def plan(
    target: str | Profile,
    model: str,
    recipe: str,
    engine: str = "",
    provider: str = "",
    **asked: int,
) -> Prediction:
    profile = load(target) if isinstance(target, str) else target
    providers = (provider,) if provider else ()
    chosen = Engine(engine, "", None, providers, {}) if engine else None
    return plan_model(facts(model), profile, Recipe(*recipe.split()), engine=chosen, **asked)  # type: ignore[arg-type]


def test_the_page_is_written_again(published: ModuleType) -> None:
    page = published.PAGE.read_text("utf-8")
    assert published.BEGIN in page
    assert published.written(page) == page


def test_there_are_more_pairs_than_were_asked_for(published: ModuleType) -> None:
    rows = list(published.figures())
    assert len({row.pair for row in rows}) >= 24
    assert len({row.device for row in rows}) >= 12
    assert {row.kind for row in rows} == set(published.UNITS)


def test_every_figure_has_its_page_and_its_words(published: ModuleType) -> None:
    sources = published.sources()
    assert {row.source for row in published.figures()} == set(sources)
    for row in published.figures():
        assert any(is_close(told, row.value) for told in spoken(row.kind, row.quote)), row
    for page in sources.values():
        assert urlparse(page["url"]).scheme == "https"
        assert page["date"][:3] == "202"


def spoken(kind: str, quote: str) -> list[float]:
    """The numbers in a quotation, in a figure's unit: pages write seconds, and rates for times."""
    plain = re.sub(r"(?<![\d.])(\d{1,3}),(\d{3})\b", r"\1\2", quote)
    numbers = [float(found.replace(",", ".")) for found in re.findall(r"\d+(?:[.,]\d+)?", plain)]
    turned = [1000 / number for number in numbers if number >= 10 and kind in ("decode", "latency")]
    seconds = [1000 * number for number in numbers if kind == "ttft"]
    return [*numbers, *turned, *seconds]


def is_close(told: float, value: float) -> bool:
    return abs(told / value - 1) < 1e-3


def test_half_is_held_back_and_no_pair_stands_on_both_sides(published: ModuleType) -> None:
    rows = list(published.figures())
    held = published.held_back(rows)
    assert held == published.held_back(reversed(rows))
    strata: dict[tuple[str, bool], set[str]] = {}
    for row in rows:
        strata.setdefault((row.family, row.kind == "latency"), set()).add(row.pair)
    for pairs in strata.values():
        assert len(pairs & held) >= len(pairs) // 2


def test_what_was_held_back_is_predicted_as_well_as_what_was_fitted(published: ModuleType) -> None:
    rows = [row for row in published.figures() if row.family in ("server GPU", "Jetson", "Apple")]
    held = published.held_back(published.figures())
    decode = [row for row in rows if row.kind == "decode"]
    errors = {row: abs(published.error(row)) for row in decode}
    fitted = statistics.median(off for row, off in errors.items() if row.pair not in held)
    other = statistics.median(off for row, off in errors.items() if row.pair in held)
    assert fitted < 10
    assert other < 15
    memory = [abs(published.error(row)) for row in rows if row.kind == "memory"]
    assert max(memory) < 6


def test_a_prompt_waits_for_weights_on_a_gpu_and_not_on_a_processor() -> None:
    gpu, cpu = load("a100"), load("raspberry-pi-5")
    for profile, engine, provider, adds in (
        (gpu, "vllm", "", True),
        (cpu, "llama", "CPU", False),
    ):
        slower = replace(
            profile.hardware,
            memory_bandwidth_bytes_per_s=profile.hardware.memory_bandwidth_bytes_per_s * 9 // 10,
        )
        usual = plan(profile, "llama-3.2-1b", "gguf fp16", engine, provider, prompt=512)
        other = plan(
            replace(profile, hardware=slower),
            "llama-3.2-1b",
            "gguf fp16",
            engine,
            provider,
            prompt=512,
        )
        assert usual.ttft_s and other.ttft_s
        assert (other.ttft_s > usual.ttft_s) is adds


def test_llama_cpp_reaches_less_of_a_gpu_with_matrix_units() -> None:
    def share(target: str) -> float:
        long = plan(target, "llama-2-7b", "gguf fp16", "llama", "CUDA", context=2048, prompt=2048)
        vllm = plan(target, "llama-2-7b", "gguf fp16", "vllm", context=2048, prompt=2048)
        assert long.ttft_s and vllm.ttft_s
        return vllm.ttft_s / long.ttft_s

    assert share("a100") < 0.6
    assert share("m4") == pytest.approx(1, abs=0.01)


def test_a_recorded_token_of_llama_cpp_costs_less_and_several_sequences_the_same() -> None:
    def tpot(engine: str, provider: str, sequences: int = 1) -> float:
        found = plan(
            "h200", "llama-3.2-1b", "gguf q8_0", engine, provider, concurrency=sequences
        ).tpot_s
        assert found
        return found

    layers = 16
    saved = tpot("llama-before-graphs", "CUDA") - tpot("llama", "CUDA")
    assert saved == pytest.approx(layers * (180e-6 - 60e-6))
    assert tpot("llama", "Vulkan") == tpot("llama-before-graphs", "CUDA")
    assert tpot("llama", "CUDA", 8) == tpot("llama-before-graphs", "CUDA", 8)


def test_a_model_on_one_neuron_core_has_that_cores_share() -> None:
    profile = load("inf2.xlarge")
    assert profile.hardware.cores_apart == 2
    assert load("trn2.48xlarge").hardware.cores_apart == 64
    assert load("a100").hardware.cores_apart == 1
    whole = replace(profile.hardware, core_memory_bytes=None)
    one = plan(profile, "bert-base-uncased", "neuron bf16", context=512, batch=8)
    both = plan(
        replace(profile, hardware=whole), "bert-base-uncased", "neuron bf16", context=512, batch=8
    )
    assert one.ttft_s and both.ttft_s
    assert one.ttft_s / both.ttft_s == pytest.approx(2, abs=0.1)


def test_bfloat16_on_a_processor_without_it_runs_as_float32() -> None:
    times = {
        name: plan("snapdragon-8-gen-3", "llama-3.2-1b", f"gguf {name}", prompt=512).ttft_s
        for name in ("fp16", "bf16")
    }
    assert times["fp16"] and times["bf16"]
    assert times["bf16"] / times["fp16"] == pytest.approx(2, abs=0.1)


def test_core_ml_takes_the_neural_engine_where_it_computes_in_halves() -> None:
    assert plan("iphone-13", "distilbert-base-uncased", "coreml fp16").unit == "npu"
    assert plan("m4", "distilbert-base-uncased", "coreml fp16", "coreml").unit == "gpu"


def test_a_convolution_uses_a_weight_many_times_and_is_one_kernel() -> None:
    small, deep = facts("resnet-18"), facts("resnet-152")
    assert small.operations == pytest.approx(2 * 1.814e9, rel=0.002)
    assert (small.operators, deep.operators) == (20, 155)
    one, two = (plan("a100", "resnet-152", "onnx int8-static", "tensorrt", batch=n) for n in (1, 2))
    assert one.ttft_s and two.ttft_s
    rate = load("a100").hardware.rate("int8", ("gpu",))
    assert rate and two.ttft_s - one.ttft_s == pytest.approx(deep.operations / rate / 0.6, rel=0.1)
    layer = (cost_of(one.engine).layer_s or {})["gpu"]
    assert one.ttft_s == pytest.approx(155 / KERNELS * layer, rel=0.25)


def test_an_edge_tpu_fetches_what_the_chip_does_not_hold() -> None:
    model, engine = facts("resnet-50"), cost_of("edgetpu")
    hardware, weights = load("coral-edgetpu").hardware, weights_of(model, "tflite", "int8-static")
    speed = speed_of(hardware, "npu", engine, "int8", Kernel())
    assert speed is not None
    held = replace(speed, on_chip=weights.read)
    fetched = (weights.read - 8 * 2**20) / 500e6
    times = [prompt_s(model, weights, each, 1, 1) for each in (speed, held)]
    assert times[0] - times[1] == pytest.approx(fetched)
    assert fetched > times[1]
