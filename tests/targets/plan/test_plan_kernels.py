"""What kernels were measured to reach decides over tables: tokens, prompts, attention."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from test_plan_predict import bare

from edgeward.targets.load import load
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.gguf_mix import BLOCKS
from edgeward.targets.plan.kernels import (
    WITH_VNNI,
    WITHOUT_VNNI,
    Kernel,
    kernel_of,
    measured_kernels,
)
from edgeward.targets.plan.latency import Speed
from edgeward.targets.plan.moved import moved_numbers
from edgeward.targets.plan.packing import SlotShares
from edgeward.targets.plan.precision import weights_of
from edgeward.targets.plan.predict import Prediction, plan_model
from edgeward.targets.plan.read import read_facts
from edgeward.targets.profile import Profile, Reached, Recipe

FAST = Reached(
    attention=16.0,
    token=dict.fromkeys(("fp32", "int8-dynamic", "int4-weights"), 16.0),
    prompt=dict.fromkeys(("fp32", "int8-dynamic", "int4-weights"), 1.0),
)
CPU = "raspberry-pi-5"
ONNX_RUNTIMES = WITHOUT_VNNI["onnxruntime"]


@pytest.fixture
def smollm2(tmp_path: Path) -> ModelFacts:
    return read_facts(str(bare("smollm2-135m", tmp_path)))


def reaching(reached: Reached, engine: str = "onnxruntime") -> Profile:
    profile = load(CPU)
    hardware = replace(profile.hardware, kernels={engine: reached})
    return replace(profile, hardware=hardware)


def planned(facts: ModelFacts, profile: Profile, precision: str, context: int = 512) -> Prediction:
    return plan_model(facts, profile, Recipe("onnx", precision), context, prompt=256)


@pytest.mark.parametrize("precision", ["fp32", "int4-weights"])
def test_a_token_takes_what_its_products_were_measured_at(
    smollm2: ModelFacts, precision: str
) -> None:
    slow = replace(FAST, token={**FAST.token, precision: 0.002})
    one = planned(smollm2, reaching(FAST), precision)
    other = planned(smollm2, reaching(slow), precision)
    hardware = load(CPU).hardware
    rate = (hardware.rate("fp32", ("cpu",)) or 0) * 0.5 * 0.002
    assert one.tpot_s and other.tpot_s
    assert other.tpot_s - one.tpot_s < 2 * smollm2.parameters / rate
    assert other.tpot_s == pytest.approx(2 * smollm2.parameters / rate, rel=0.1)


def test_attention_takes_what_was_measured_beside_reading_the_cache(smollm2: ModelFacts) -> None:
    slow = replace(FAST, attention=0.01)
    short, long = (
        [planned(smollm2, reaching(each), "fp32", context).tpot_s or 0 for context in (512, 2048)]
        for each in (FAST, slow)
    )
    hardware = load(CPU).hardware
    rate = (hardware.rate("fp32", ("cpu",)) or 0) * 0.5
    compared = 4 * 30 * 9 * 64 * (2048 - 512)
    expected = compared / (0.01 * rate) - compared / (16 * rate)
    assert (long[1] - long[0]) - (short[1] - short[0]) == pytest.approx(expected, rel=0.05)


def test_the_cache_is_read_at_the_share_that_was_measured(smollm2: ModelFacts) -> None:
    slow = replace(FAST, cache=0.2)
    one, other = (planned(smollm2, reaching(each), "fp32").tpot_s or 0 for each in (FAST, slow))
    reading = 512 * 30 * 2 * 3 * 64 * 4 / (0.7 * load(CPU).hardware.memory_bandwidth_bytes_per_s)
    assert other - one == pytest.approx(reading * 4, rel=0.01)


def test_attention_over_slots_takes_what_was_measured(smollm2: ModelFacts) -> None:
    """LiteRT's goes through all that heads see of a cache, whose slots a bundle has."""
    reached = [reaching(Reached(cache=share), "litert") for share in (0.1, 0.2)]
    one, other = (
        plan_model(smollm2, each, Recipe("tflite", "fp32"), 1024).tpot_s or 0 for each in reached
    )
    seen = 4 * 1024 * 30 * 2 * 9 * 64
    bandwidth = 0.7 * load(CPU).hardware.memory_bandwidth_bytes_per_s
    assert one - other == pytest.approx(seen * (1 / 0.1 - 1 / 0.2) / bandwidth, rel=0.01)


def test_more_slots_cost_more_each_as_a_processors_caches_hold_less_of_them() -> None:
    shares = SlotShares(far=0.2, near=0.25)
    assert [shares.reading(size << 20) for size in (2, 4, 8, 16)] == pytest.approx([4, 4.5, 5, 5.5])
    assert shares.reading(1 << 40) == 2 / 0.2
    assert shares.reading(1) == 0.5 / 0.2
    assert SlotShares(far=0.2).reading(2 << 20) == 5


def test_what_is_cached_is_written_anew_once_whoever_shares_it(smollm2: ModelFacts) -> None:
    """LiteRT's: three heads share a cache here."""
    reached = [reaching(Reached(cache=0.2, written=each), "litert") for each in (None, 0.5)]
    one, other = (
        plan_model(smollm2, each, Recipe("tflite", "fp32"), 1024).tpot_s or 0 for each in reached
    )
    cached = 4 * 1024 * 30 * 2 * 3 * 64
    bandwidth = 0.7 * load(CPU).hardware.memory_bandwidth_bytes_per_s
    assert other - one == pytest.approx(cached / 0.5 / bandwidth, rel=0.01)


def test_the_scores_of_a_prompt_are_moved_where_the_products_alone_were_measured(
    smollm2: ModelFacts,
) -> None:
    target = reaching(Reached(cache=0.2, token={"fp32": 0.1}, prompt={"fp32": 0.5}), "litert")
    short, long = (
        plan_model(smollm2, target, Recipe("tflite", "fp32"), slots, prompt=128).ttft_s or 0
        for slots in (256, 1024)
    )
    bandwidth = 0.7 * load(CPU).hardware.memory_bandwidth_bytes_per_s
    rate = 0.5 * (load(CPU).hardware.rate("fp32") or 0)
    scores, seen = 30 * 9 * 128 * 768, 4 * 768 * 30 * 2 * 9 * 64
    expected = (32 * scores + seen / 0.2) / bandwidth + 4 * 64 * scores / rate
    assert long - short == pytest.approx(expected, rel=0.01)


def test_a_prompt_takes_what_was_measured_of_its_own_rate(smollm2: ModelFacts) -> None:
    slow = replace(FAST, prompt={**FAST.prompt, "int4-weights": 0.25})
    one = planned(smollm2, reaching(FAST), "int4-weights").ttft_s
    other = planned(smollm2, reaching(slow), "int4-weights").ttft_s
    assert one and other
    assert 2.5 < other / one < 4


def test_a_short_prompts_products_are_between_a_tokens_and_those_that_were_measured() -> None:
    """One token's take as long as eight of a prompt's here."""
    speed = Speed(1.0, 128.0, 128.0, 0.0, token_operations_per_s=16.0, rows=128)
    assert speed.products_s(1, 1) == pytest.approx(1 / 16)
    assert speed.products_s(128, 128) == 1
    assert speed.products_s(129, 129) == pytest.approx(129 / 128)
    assert speed.products_s(64.5, 64.5) == pytest.approx((1 / 16 + 1) / 2)


def test_a_short_prompt_waits_for_its_weights(smollm2: ModelFacts) -> None:
    slow = replace(FAST, token={**FAST.token, "fp32": 0.01})
    one, other = (
        plan_model(smollm2, reaching(each), Recipe("onnx", "fp32"), 512, prompt=8).ttft_s or 0
        for each in (FAST, slow)
    )
    assert other > 3 * one


def test_what_another_engine_reaches_says_nothing(smollm2: ModelFacts) -> None:
    slow = replace(FAST, token=dict.fromkeys(FAST.token, 0.001))
    usual = planned(smollm2, load(CPU), "fp32")
    assert planned(smollm2, reaching(slow, "llama"), "fp32").tpot_s == usual.tpot_s


def kernel(facts: ModelFacts, format_name: str, precision: str, measured: Reached | None) -> Kernel:
    weights = weights_of(facts, format_name, precision)
    return kernel_of(Recipe(format_name, precision), facts, weights, measured)


def test_precisions_that_are_multiplied_alike_are_as_fast(smollm2: ModelFacts) -> None:
    for one, other in (("fp32", "bf16"), ("int4-weights", "int4-mixed")):
        assert kernel(smollm2, "onnx", one, ONNX_RUNTIMES) == kernel(
            smollm2, "onnx", other, ONNX_RUNTIMES
        )
    unknown = kernel(smollm2, "onnx", "fp32", replace(ONNX_RUNTIMES, token={}, prompt={}))
    assert unknown == Kernel(attention=ONNX_RUNTIMES.attention)


def test_a_files_types_take_their_time_one_after_the_other(smollm2: ModelFacts) -> None:
    """Rows of 576 fall back from q4_k and q6_k to q5_0 and q8_0; the head is of words' table."""
    reached = Reached(0.1, {"q5_0": 0.2, "q8_0": 0.1}, {"q5_0": 0.5, "q8_0": 0.8})
    counts: Counter[str] = Counter()
    for tensor, name, _ in weights_of(smollm2, "gguf", "q4_k_m").types:
        counts[name] += tensor.count if tensor.is_matrix else 0
    head = 49152 * 576
    q5, q8, others = (
        counts["q5_0"],
        counts["q8_0"],
        counts.total() - counts["q5_0"] - counts["q8_0"],
    )
    found = kernel(smollm2, "gguf", "q4_k_m", reached)
    assert min(q5, q8) > 10**7
    assert found.token == pytest.approx((q5 + q8 + others) / (q5 / 0.2 + q8 / 0.1))
    assert found.prompt == pytest.approx(
        (q5 + q8 + others - head) / (q5 / 0.5 + (q8 - head) / 0.8 + others)
    )


def test_of_a_type_that_nobody_measured_the_memory_decides(smollm2: ModelFacts) -> None:
    found = kernel(smollm2, "gguf", "q8_0", Reached(0.1, {"q4_0": 0.2}, {"q4_0": 0.2}))
    assert (found.token, found.prompt) == (0, 1)


def test_a_table_that_is_looked_up_is_not_multiplied(tmp_path: Path) -> None:
    """Of a head of its own; and of experts those that a token goes through."""
    facts = read_facts(str(bare("mixtral-8x7b", tmp_path)))
    reached = Reached(0.1, dict.fromkeys(BLOCKS, 1.0) | {"q8_0": 0.5}, {})
    counts: Counter[str] = Counter()
    for tensor, name, _ in weights_of(facts, "gguf", "q4_k_m").types:
        if tensor.is_matrix and "embed_tokens" not in tensor.name:
            counts[name] += tensor.count // (4 if ".experts." in tensor.name else 1)
    found = kernel(facts, "gguf", "q4_k_m", reached)
    assert counts["q8_0"]
    wanted = counts.total() / (counts.total() + counts["q8_0"])
    assert found.token == pytest.approx(wanted, rel=1e-3)


def test_x86_without_vnni_has_tables_of_its_own() -> None:
    for engine, reached in WITHOUT_VNNI.items():
        assert measured_kernels(load("x86-64-cpu").hardware, engine) is reached
    for target in ("x86-64-avx512", CPU):
        assert measured_kernels(load(target).hardware, "onnxruntime") is None
        assert measured_kernels(load(target).hardware, "llama") is WITH_VNNI["llama"]
    assert measured_kernels(load("x86-64-cpu").hardware, "litert") is None
    # No Arm processor adds pairs, but one without SDOT has nothing faster either.
    assert measured_kernels(load("raspberry-pi-4").hardware, "llama") is WITHOUT_VNNI["llama"]
    assert measured_kernels(load("raspberry-pi-4").hardware, "onnxruntime") is None


def test_an_engine_has_its_kernels_by_any_of_its_names() -> None:
    hardware = reaching(FAST, "llama").hardware
    for name in ("llama", "llama-cpp", "llama-before-graphs"):
        assert measured_kernels(hardware, name) is FAST


def test_longer_texts_move_more_and_scores_grow_by_the_square(tmp_path: Path) -> None:
    facts = read_facts(str(bare("bert-base-uncased", tmp_path)))
    short, long = moved_numbers(facts, 128), moved_numbers(facts, 256)
    scores = 2 * facts.layers * facts.heads * 128 * 128
    assert long - 2 * short == pytest.approx(2 * scores)


def test_a_decoder_keeps_of_its_encoder_once_not_with_each_token(tmp_path: Path) -> None:
    facts = read_facts(str(bare("whisper-tiny", tmp_path)))
    alone = replace(facts, cross_width=0)
    one, other = (planned(each, reaching(FAST), "fp32", 64) for each in (facts, alone))
    assert one.ttft_s and other.ttft_s
    rate = (load(CPU).hardware.rate("fp32", ("cpu",)) or 0) * 0.5
    times = facts.encoder_tokens - 64
    crossing = 2 * facts.cross_width * facts.encoder_hidden * times
    assert one.ttft_s - other.ttft_s == pytest.approx(crossing / rate, rel=0.01)


def test_what_stands_between_products_takes_time_where_they_were_measured_alone(
    smollm2: ModelFacts,
) -> None:
    of_models, of_products = (
        planned(smollm2, load(CPU), "fp32"),
        planned(smollm2, reaching(FAST), "fp32"),
    )
    hardware = load(CPU).hardware
    rate = (hardware.rate("fp32", ("cpu",)) or 0) * 0.5
    moved = 16 * moved_numbers(smollm2, 256) / (0.7 * hardware.memory_bandwidth_bytes_per_s)
    compared = 2 * 30 * 576 * 256 * 256 / rate
    assert of_models.ttft_s and of_products.ttft_s
    expected = moved + compared / 0.27 - compared
    assert of_products.ttft_s - of_models.ttft_s == pytest.approx(expected, rel=0.01)
