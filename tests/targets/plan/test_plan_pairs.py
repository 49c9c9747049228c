"""Times of what writes behind a text: the text is read once, each token looks back at all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_plan_kernels import CPU, FAST, planned, reaching
from test_plan_predict import bare

from edgeward.targets.load import load
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.latency import Speed, token_s
from edgeward.targets.plan.memory import cache_bytes, written_bytes
from edgeward.targets.plan.precision import weights_of
from edgeward.targets.plan.predict import plan_model
from edgeward.targets.plan.read import read_facts
from edgeward.targets.plan.roles import kind_of, tower_of
from edgeward.targets.profile import Recipe


@pytest.fixture
def t5(tmp_path: Path) -> ModelFacts:
    return read_facts(str(bare("t5-small", tmp_path)))


def rate() -> float:
    return (load(CPU).hardware.rate("fp32", ("cpu",)) or 0) * 0.5


def test_one_token_begins_what_is_written_however_long_the_text(t5: ModelFacts) -> None:
    written = [each for each in t5.tensors if tower_of(each.name, t5.kind) == "decoder"]
    feeding = {each.name for each in written if kind_of(each.name) == "mlp"}
    narrow = replace(t5, tensors=tuple(e for e in t5.tensors if e.name not in feeding))
    count = sum(each.count for each in written if each.name in feeding)
    one, other = (planned(each, reaching(FAST), "fp32") for each in (t5, narrow))
    assert count > 1e7
    assert one.ttft_s and other.ttft_s
    assert one.ttft_s - other.ttft_s == pytest.approx(2 * count / rate() / 16, rel=0.05)


def test_each_token_is_multiplied_with_the_whole_text_as_with_weights_in_floats(
    t5: ModelFacts,
) -> None:
    slow = replace(FAST, token={**FAST.token, "fp32": 0.001})
    one, other = (planned(t5, reaching(each), "int8-dynamic").tpot_s or 0 for each in (slow, FAST))
    seen = 2 * 6 * 2 * 512 * 512
    reading = 4 * 6 * 2 * 512 * 512 / (0.7 * load(CPU).hardware.memory_bandwidth_bytes_per_s)
    assert one - other == pytest.approx(seen / rate() / 0.001 - reading, rel=0.01)


def test_a_tokens_own_attention_is_of_what_was_written(t5: ModelFacts) -> None:
    slow = replace(FAST, attention=0.01)
    one, other = (planned(t5, reaching(each), "fp32").tpot_s or 0 for each in (slow, FAST))
    seen = 2 * 6 * 2 * 512 * 512
    assert one - other == pytest.approx(seen / rate() * (1 / 0.01 - 1 / 16), rel=0.01)


def test_a_cache_behind_an_encoder_is_written_anew_with_each_token(t5: ModelFacts) -> None:
    weights = weights_of(t5, "onnx", "fp32")
    plain = Speed(1.0, 1e30, 1e30, 0.0)
    one, other = (
        token_s(t5, weights, each, context=512, sequences=1, cache_bits=32)
        for each in (plain, replace(plain, rewrites=True))
    )
    assert other - one == 2 * written_bytes(t5, 512, 1, 32)
    assert 2 * written_bytes(t5, 512, 1, 32) == cache_bytes(t5, 512, 1, 32)


def test_a_sound_is_read_by_all_its_rows_however_few_words_begin_what_is_written(
    tmp_path: Path,
) -> None:
    """Products of few rows take longer each; the encoder's are of 1500."""
    whisper = read_facts(str(bare("whisper-tiny", tmp_path)))
    slow = replace(FAST, token={**FAST.token, "fp32": 0.01})
    one, other = (
        plan_model(whisper, reaching(each), Recipe("onnx", "fp32"), 64, prompt=4).ttft_s or 0
        for each in (slow, FAST)
    )
    decoder = 2 * sum(
        e.count for e in whisper.tensors if tower_of(e.name, whisper.kind) == "decoder"
    )
    assert 0 < one - other < decoder / rate() / 0.01
    assert one < 2 * other
