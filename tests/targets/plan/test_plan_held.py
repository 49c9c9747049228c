"""What a processor's own caches hold: few weights and short caches are read faster than memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_plan_predict import bare

from edgeward.targets.load import load
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.kernels import kernel_of
from edgeward.targets.plan.precision import Weights, weights_of
from edgeward.targets.plan.predict import plan_model
from edgeward.targets.plan.read import read_facts
from edgeward.targets.plan.reads import beyond, read_a_step
from edgeward.targets.profile import Profile, Reached, Recipe

MIB = 1 << 20
TOKEN, HELD = {"int8-dynamic": 0.2}, {"int8-dynamic": 0.4}
SEEN = Reached(0.1, TOKEN, {"int8-dynamic": 2.0}, held=HELD)
# Attention that takes long, more so beyond a processor's caches.
LLAMA = Reached(
    0.1,
    {"q8_0": 0.1},
    {"q8_0": 0.5},
    cache=0.1,
    held={"q8_0": 0.2},
    attention_held=0.4,
    cache_held=0.4,
)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> ModelFacts:
    return read_facts(str(bare("smollm2-135m", Path(tmp_path_factory.mktemp("bare")))))


def token(facts: ModelFacts, mebibytes: float, reached: Reached = SEEN) -> float:
    """The share that a token's products reach with weights of a size."""
    weights = replace(weights_of(facts, "onnx", "int8-dynamic"), read=int(mebibytes * MIB))
    return kernel_of(Recipe("onnx", "int8-dynamic"), facts, weights, reached).token


def test_few_weights_are_as_fast_as_what_is_held_and_many_as_memory(smollm2: ModelFacts) -> None:
    assert token(smollm2, 3) == token(smollm2, 16) == pytest.approx(0.4)
    assert token(smollm2, 96) == token(smollm2, 5000) == pytest.approx(0.2)
    assert token(smollm2, 56) == pytest.approx(1 / (0.5 / 0.4 + 0.5 / 0.2))


def test_a_machine_where_it_was_not_measured_has_one_share(smollm2: ModelFacts) -> None:
    assert token(smollm2, 3, replace(SEEN, held={})) == pytest.approx(0.2)


@given(st.lists(st.floats(0, 1e12), min_size=2))
def test_the_more_is_read_the_more_comes_from_memory(sizes: list[float]) -> None:
    shares = [beyond(size, 16 * MIB, 96 * MIB) for size in sorted(sizes)]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)


def test_weights_that_are_held_do_not_wait_for_the_memory(smollm2: ModelFacts) -> None:
    """Of a slow memory a token takes as long as of a fast one where it reads no weight there."""
    target = "raspberry-pi-5"
    small = replace(
        smollm2, tensors=tuple(replace(one, shape=(16, 16)) for one in smollm2.tensors), cache=()
    )
    fast, slow = (
        tpot(small, with_memory(target, SEEN, "onnxruntime", speed), "onnx", "int8-dynamic")
        for speed in (10**11, 10**7)
    )
    assert fast == pytest.approx(slow)
    without = replace(SEEN, held={})
    far = with_memory(target, without, "onnxruntime", 10**7)
    assert tpot(small, far, "onnx", "int8-dynamic") > slow


def test_a_short_cache_is_seen_faster_than_a_long_one(smollm2: ModelFacts) -> None:
    """A token's cache is 22.5 KiB in 16 bits: 64 take a MiB and a half, 4096 far more than 12."""
    known = with_memory("raspberry-pi-5", LLAMA, "llama", 10**10)
    other = replace(LLAMA, attention_held=None, cache_held=None)
    unknown = with_memory("raspberry-pi-5", other, "llama", 10**10)
    (short, long), (short_far, long_far) = (
        [tpot(smollm2, target, "gguf", "q8_0", tokens) for tokens in (64, 4096)]
        for target in (known, unknown)
    )
    assert short < short_far
    assert long == pytest.approx(long_far)


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_of_experts_a_step_reads_those_it_is_routed_to(smollm2: ModelFacts, kind: str) -> None:
    facts = replace(smollm2, kind=kind, experts=8, active_experts=2)
    weights = replace(weights_of(smollm2, "onnx", "fp32"), read=1000, routed=800)
    assert read_a_step(facts, weights, 1) == pytest.approx(1000 - 800 * 0.75)
    assert read_a_step(facts, weights, 2) == pytest.approx(1000 - 800 * 0.75**2)


def test_where_whole_layers_were_measured_nothing_is_added_for_each(smollm2: ModelFacts) -> None:
    weights: Weights = weights_of(smollm2, "gguf", "q8_0")
    recipe = Recipe("gguf", "q8_0")
    assert kernel_of(recipe, smollm2, weights, LLAMA).whole
    assert not kernel_of(recipe, smollm2, weights, replace(LLAMA, held={})).whole


def with_memory(name: str, reached: Reached, engine: str, bytes_per_s: int) -> Profile:
    profile = load(name)
    return replace(
        profile,
        hardware=replace(
            profile.hardware, kernels={engine: reached}, memory_bandwidth_bytes_per_s=bytes_per_s
        ),
    )


def tpot(
    facts: ModelFacts, target: Profile, form: str, precision: str, context: int = 512
) -> float:
    found = plan_model(facts, target, Recipe(form, precision), context, prompt=16).tpot_s
    assert found
    return found
