"""LiteRT: packed weights, fixed caches, a prompt in pieces, held against what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeward.targets.load import load
from edgeward.targets.plan.engines import cost_of
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.gather import facts_of
from edgeward.targets.plan.memory import Memory, cache_bytes, memory_of
from edgeward.targets.plan.packed import (
    activation_bytes,
    attention_s,
    calls_of,
    computed,
    encoder_share,
    weights_bytes,
)
from edgeward.targets.plan.packing import Packing
from edgeward.targets.plan.precision import Weights, weights_of
from edgeward.targets.plan.predict import Prediction, plan_model
from edgeward.targets.profile import Engine, Recipe

CONFIGS = Path(__file__).parent / "configs"
LITERT = Engine("litert", ">=2.1", None, ("CPU",), {})
MIB = 2**20
WIDE = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
DEEP = {
    **WIDE,
    "model_type": "qwen2",
    "vocab_size": 16000,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
UNSEEN = {
    **WIDE,
    "vocab_size": 40000,
    "hidden_size": 640,
    "intermediate_size": 1792,
    "num_hidden_layers": 14,
    "num_attention_heads": 10,
    "num_key_value_heads": 5,
}
BERT = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}


def published(name: str) -> ModelFacts:
    return facts_of(json.loads((CONFIGS / f"{name}.json").read_text())["config"])


def smollm2() -> ModelFacts:
    return published("smollm2-135m")


def packing() -> Packing:
    found = cost_of("litert").packing
    assert found
    return found


def weights(facts: ModelFacts, precision: str) -> Weights:
    return weights_of(facts, "tflite", precision)


def served(
    facts: ModelFacts, precision: str, context: int, *, batch: int = 1, unit: str = "cpu"
) -> Memory:
    return memory_of(
        facts,
        weights(facts, precision),
        cost_of("litert"),
        context=context,
        batch=batch,
        sequences=batch,
        unit=unit,
        cache_bits=32,
    )


def planned(facts: ModelFacts, precision: str, context: int, prompt: int = 256) -> Prediction:
    recipe = Recipe("tflite", precision)
    return plan_model(facts, load("x86-64-cpu"), recipe, context, engine=LITERT, prompt=prompt)


# Measured on one thread of a Xeon, the processes' peak: benchmarks/plan/reality.py. All but
# SmolLM2 and Whisper are random; of UNSEEN nothing was in view when the constants were chosen.
@pytest.mark.parametrize(
    ("config", "precision", "context", "mebibytes"),
    [
        ("smollm2-135m", "fp32", 1024, 946),
        ("smollm2-135m", "fp16", 1024, 1605),
        ("smollm2-135m", "int8-dynamic", 1024, 451),
        ("smollm2-135m", "int8-weights", 1024, 2268),
        ("smollm2-135m", "int4-weights", 1024, 388),
        (DEEP, "fp32", 2560, 425),
        (DEEP, "int8-dynamic", 640, 188),
        (WIDE, "fp32", 1024, 820),
        (WIDE, "fp16", 1024, 1370),
        (WIDE, "int8-dynamic", 1024, 363),
        (UNSEEN, "int8-dynamic", 1536, 397),
        (BERT, "fp32", 128, 410),
        (BERT, "fp16", 128, 517),
        (BERT, "int8-dynamic", 128, 169),
        (BERT, "int8-weights", 128, 577),
        ("whisper-tiny", "fp32", 440, 500),
    ],
)
def test_the_peak_is_near_what_was_measured(
    config: str | dict[str, object], precision: str, context: int, mebibytes: float
) -> None:
    facts = published(config) if isinstance(config, str) else facts_of(config)
    total = served(facts, precision, context).total
    assert total / MIB == pytest.approx(mebibytes, rel=0.05)


def test_a_generator_packs_its_weights_once_and_keeps_the_buffer_of_the_widest() -> None:
    facts = facts_of(WIDE)
    whole = weights(facts, "fp32")
    head = 4 * 32000 * 1024
    assert whole.read == whole.stored - head
    kept = weights_bytes(packing(), facts, whole, 3)
    assert kept - whole.read - 3 * 64 * 1024 // 3 == pytest.approx(head, rel=0.001)
    more = replace(packing(), signatures=5)
    assert weights_bytes(more, facts, whole, 3) == kept


def test_rows_that_are_looked_up_are_no_more_than_the_table() -> None:
    facts = facts_of(WIDE)
    whole, table = weights(facts, "fp32"), 4 * 32000 * 1024
    few, many, all_of_them = (
        weights_bytes(packing(), facts, whole, n) for n in (300, 600, 1 << 20)
    )
    assert many - few == 300 * 64 * 1024 // 3
    assert all_of_them - few == pytest.approx(table - 300 * 64 * 1024 // 3, rel=0.001)


def test_integers_that_are_multiplied_as_floats_are_floats_in_each_graph() -> None:
    facts = facts_of(WIDE)
    rounded, whole = weights(facts, "int8-weights"), weights(facts, "fp32")
    one, two = (weights_bytes(replace(packing(), signatures=n), facts, rounded, 64) for n in (1, 2))
    assert two - one == pytest.approx(whole.stored, rel=0.001)
    assert weights_bytes(packing(), facts, weights(facts, "int8-dynamic"), 64) < whole.read / 2


@pytest.mark.parametrize(("tied", "tables"), [(False, 1), (True, 2)])
def test_a_table_of_halves_is_made_floats_twice_where_it_is_the_head_too(
    tied: bool, tables: int
) -> None:
    facts = facts_of({**WIDE, "tie_word_embeddings": tied})
    halves = weights(facts, "fp16")
    one, two = (weights_bytes(replace(packing(), signatures=n), facts, halves, 64) for n in (1, 2))
    assert two - one == tables * 4 * 32000 * 1024


def test_an_encoder_keeps_the_file_that_it_packed_from() -> None:
    facts = facts_of(BERT)
    whole = weights(facts, "fp32")
    touched = 12 * 64 * 1024 // 3
    assert weights_bytes(packing(), facts, whole, 12) == 2 * whole.read + touched


def test_a_cache_and_logits_stand_twice_for_each_token_of_a_piece() -> None:
    facts = smollm2()
    long, short = served(facts, "fp32", 1024), served(facts, "fp32", 100)
    assert long.cache == 2 * cache_bytes(facts, 1024, 1, 32)
    assert long.logits == 2 * 128 * 49152 * 4
    assert short.logits == 2 * 100 * 49152 * 4
    assert served(facts_of(BERT), "fp32", 128).logits == 0


def test_attention_holds_every_slot_and_a_batch_of_texts_its_own_tensors() -> None:
    facts, one = smollm2(), served(smollm2(), "fp32", 1024)
    twice = served(facts, "fp32", 2048)
    grown = twice.activations - one.activations
    assert grown == 4 * 1024 * (2 * 9 * 128 + 2 * 576), "scores twice, shared keys and values"
    apart = replace(facts, kv_heads=facts.heads)
    assert served(apart, "fp32", 1024).activations == 4 * 1024 * 2 * 9 * 128
    short = served(apart, "fp32", 32)
    assert short.activations == 4 * 32 * 2 * (576 + 1536), "a feed-forward is larger"
    single, pair = (served(facts_of(BERT), "fp32", 128, batch=n) for n in (1, 2))
    assert pair.activations == 2 * single.activations


def test_an_encoder_beside_a_decoder_has_its_tensors_its_file_and_one_graph() -> None:
    facts = published("whisper-tiny")
    alone = replace(facts, encoder_tokens=0, kind="decoder", encoder_layers=0)
    beside = activation_bytes(packing(), facts, 448) - activation_bytes(packing(), alone, 448)
    scores = 4 * 6 * 1500 * 1500
    assert scores < beside < 2 * scores
    share = encoder_share(facts)
    assert 0.2 < share < 0.3
    whole, rounded = weights(facts, "fp32"), weights(facts, "int8-weights")
    few = weights_bytes(packing(), facts, whole, 3)
    assert few > whole.read * (1 + share)
    three, two = (
        weights_bytes(replace(packing(), signatures=n), facts, rounded, 3) for n in (3, 2)
    )
    table = 4 * 51865 * 384
    assert three - two == pytest.approx(whole.read * (1 - share) + table, rel=0.01)


def test_on_a_gpu_nothing_is_packed_here() -> None:
    facts = smollm2()
    assert served(facts, "fp32", 1024, unit="gpu").weights == weights(facts, "fp32").stored


def test_a_token_reads_what_was_packed() -> None:
    facts = smollm2()
    whole = weights(facts, "fp32")
    for precision, read in (
        ("fp16", whole.read),
        ("int8-weights", whole.read),
        ("int8-dynamic", weights(facts, "int8-dynamic").read),
    ):
        assert computed(facts, weights(facts, precision)).read == read
    slow, fast = planned(facts, "fp16", 512).tpot_s, planned(facts, "int8-dynamic", 512).tpot_s
    assert slow and fast
    assert planned(facts, "fp32", 512).tpot_s == slow
    assert slow > fast


def test_a_token_goes_through_every_slot_and_slower_where_they_fill_the_processors_cache() -> None:
    facts = smollm2()
    habits = packing()
    near, far = habits.moved
    seen = 4 * 30 * 2 * 9 * 64
    assert attention_s(habits, facts, 1024, 1, 1e9) == pytest.approx(1024 * seen * near / 1e9)
    assert attention_s(habits, facts, 2048, 1, 1e9) == pytest.approx(2048 * seen * far / 1e9)
    assert attention_s(habits, facts, 512, 3, 1e9) == pytest.approx(3 * 512 * seen * near / 1e9)
    short, long = planned(facts, "fp32", 512).tpot_s, planned(facts, "fp32", 1024).tpot_s
    bandwidth = 0.7 * load("x86-64-cpu").hardware.memory_bandwidth_bytes_per_s
    assert short and long
    assert long - short == pytest.approx(512 * seen * near / bandwidth)


def test_a_prompt_takes_whole_calls() -> None:
    facts = smollm2()
    assert calls_of(packing(), facts, 128, 1024) == (1, 128)
    assert calls_of(packing(), facts, 129, 1024) == (2, 128)
    assert calls_of(packing(), facts, 20, 100) == (1, 100)
    one, full, over = (planned(facts, "fp32", 1024, n).ttft_s for n in (100, 128, 129))
    assert one and full and over
    assert one == full
    assert over == pytest.approx(2 * full)


def test_behind_a_sound_a_piece_is_short_and_the_encoder_is_read_once() -> None:
    facts = published("whisper-tiny")
    assert calls_of(packing(), facts, 4, 448) == (1, packing().heard)
    first, again = planned(facts, "fp32", 448, 4), planned(facts, "fp32", 448, 64)
    assert first.ttft_s and again.ttft_s
    assert again.ttft_s < 2 * first.ttft_s
