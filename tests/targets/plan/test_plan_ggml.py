"""What llama.cpp keeps in memory on a processor."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_gguf import Q4_0, tiny_gguf

from edgeward.targets.load import load
from edgeward.targets.plan import ggml
from edgeward.targets.plan.blob import LocalBlob
from edgeward.targets.plan.engines import cost_of
from edgeward.targets.plan.facts import ModelFacts, Tensor
from edgeward.targets.plan.gather import facts_of
from edgeward.targets.plan.gguf_file import read_gguf
from edgeward.targets.plan.memory import Memory, memory_of
from edgeward.targets.plan.precision import STORED, weights_of
from edgeward.targets.plan.predict import plan_model
from edgeward.targets.profile import Recipe

CONFIGS = Path(__file__).parent / "configs"
MIB = 2**20
A_TOKEN = 30 * 2 * 3 * 64 * 2  # SmolLM2-135M: layers, keys and values, heads, head size, float16
TABLE, LAYERS, HIDDEN, INNER = 49152, 30, 576, 1536
AVX2, SDOT, PLAIN = frozenset({"AVX2"}), frozenset({"DOTPROD"}), frozenset[str]()

LLAMA: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "intermediate_size": 2816,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 8192,
    "vocab_size": 32_000,
}
GEMMA: dict[str, object] = {
    "model_type": "gemma",
    "hidden_size": 768,
    "num_hidden_layers": 6,
    "intermediate_size": 3072,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "vocab_size": 100_000,
    "tie_word_embeddings": True,
}


def facts(name: str = "smollm2-135m", **changes: object) -> ModelFacts:
    config = json.loads((CONFIGS / f"{name}.json").read_text())["config"]
    return facts_of({**config, **changes}, name=name)


def served(
    model: ModelFacts, precision: str, context: int, sequences: int = 1, unit: str = "cpu"
) -> Memory:
    weights = weights_of(model, "gguf", precision)
    return memory_of(
        model,
        weights,
        cost_of("llama"),
        context=context,
        batch=1,
        sequences=sequences,
        unit=unit,
        cache_bits=weights.cache_bits,
        features=AVX2,
    )


@pytest.mark.parametrize(
    ("context", "kept"), [(100, 256), (128, 256), (129, 512), (512, 768), (1000, 1280)]
)
def test_a_context_has_room_for_a_first_text_in_whole_steps(context: int, kept: int) -> None:
    assert served(facts(), "q8_0", context).cache == kept * A_TOKEN
    assert served(facts(), "fp32", context).cache == 2 * kept * A_TOKEN
    assert served(facts(), "q8_0", context, unit="gpu").cache == context * A_TOKEN


def test_each_text_has_a_context_of_its_own_with_all_its_buffers() -> None:
    one, three = served(facts(), "q8_0", 512), served(facts(), "q8_0", 512, sequences=3)
    assert three.cache == 3 * one.cache
    assert three.activations == 3 * one.activations
    assert three.weights == one.weights


def test_what_most_of_a_file_is_packed_anew_from_is_read_and_stands_there_once() -> None:
    weights = weights_of(facts(), "gguf", "q4_0")
    assert ggml.weights_bytes(facts(), weights, AVX2) == weights.stored
    assert served(facts(), "q4_0", 512).weights == weights.stored


def test_what_little_of_a_mapped_file_is_packed_anew_stands_beside_it() -> None:
    """Rows of 576 hold no blocks of 256: of q4_k_m only half of the layers' last matrices do."""
    weights = weights_of(facts(), "gguf", "q4_k_m")
    blocks = sum(
        size for tensor, name, size in weights.types if name == "q4_k" and tensor.columns == INNER
    )
    assert 0 < blocks < weights.stored / 8
    assert ggml.weights_bytes(facts(), weights, AVX2) == weights.stored + blocks
    assert ggml.weights_bytes(facts(), weights, PLAIN) == weights.stored


@pytest.mark.parametrize("precision", ["fp16", "q8_0", "q6_k", "iq3_s"])
def test_types_that_avx2_has_no_order_for_stay_as_they_are(precision: str) -> None:
    weights = weights_of(facts(), "gguf", precision)
    assert ggml.weights_bytes(facts(), weights, AVX2) == weights.stored


def test_a_table_that_is_packed_anew_as_the_head_stays_for_its_rows() -> None:
    tied, apart = facts(), facts(tie_word_embeddings=False)
    for model, more in ((tied, True), (apart, False)):
        weights = weights_of(model, "gguf", "q8_0")
        beside = ggml.weights_bytes(model, weights, SDOT) - weights.stored
        assert beside == (TABLE * HIDDEN * 34 // 32 if more else 0)


def test_activations_are_the_buffer_that_llama_cpp_plans() -> None:
    """Its log: 14.01 MiB at a context of 512 tokens, 14.26 at 768, 15.76 at 2304."""
    for context, said in ((384, 14.01), (512, 14.26), (2048, 15.76)):
        found = ggml.activation_bytes(facts(), 512, context, exact=False)
        assert found / MIB == pytest.approx(said, abs=0.02)


def test_scores_stand_whole_in_float32_alone() -> None:
    fused = ggml.activation_bytes(facts(), 512, 512, exact=False)
    whole = ggml.activation_bytes(facts(), 512, 512, exact=True)
    assert whole - fused == 512 * 768 * (9 * 4 + 2)


def test_every_token_that_an_encoder_reads_gets_a_row_of_logits() -> None:
    model = facts("all-minilm-l6-v2")
    short, long = served(model, "fp16", 128), served(model, "fp16", 512)
    assert short.logits == 128 * 4 * (30522 + 384)
    assert long.logits == 4 * short.logits
    assert served(model, "fp16", 128).cache == 0


def test_short_texts_share_a_batch_and_long_ones_do_not() -> None:
    model = facts("all-minilm-l6-v2")
    assert ggml.read_at_once(model, 128, 1, 512) == 128
    assert ggml.read_at_once(model, 128, 8, 512) == 256
    assert ggml.read_at_once(model, 400, 8, 512) == 400
    assert ggml.read_at_once(facts(), 2048, 1, 512) == 512


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("x86-64-cpu", AVX2),
        ("raspberry-pi-5", SDOT),
        ("raspberry-pi-4", PLAIN),
        ("m1", SDOT),
    ],
)
def test_a_profile_tells_what_is_packed_anew(target: str, found: frozenset[str]) -> None:
    assert ggml.features_of(load(target).hardware) == found


def test_a_plan_asks_its_target_what_is_packed_anew() -> None:
    def weights(target: str) -> int:
        return plan_model(facts(), load(target), Recipe("gguf", "q8_0"), 512).memory.weights

    profile = replace(load("raspberry-pi-4"), engines=load("raspberry-pi-5").engines)
    plain = plan_model(facts(), profile, Recipe("gguf", "q8_0"), 512).memory.weights
    assert weights("raspberry-pi-5") - plain == TABLE * HIDDEN * 34 // 32


def test_a_gguf_files_own_types_are_kept(tmp_path: Path) -> None:
    listed = {"token_embd.weight": ((32, 64), Q4_0, 0), "blk.0.x.weight": ((32, 8), Q4_0, 1152)}
    file = tiny_gguf(tmp_path / "tiny.gguf", tensors=listed, data=2000)
    read = read_gguf(LocalBlob(file))[1]
    assert {one.name: one.stored_as for one in read} == dict.fromkeys(listed, "q4_0")
    known = replace(facts(), tensors=(*read, Tensor("other", (4, 4))))
    types = weights_of(known, "gguf", STORED).types
    assert [(name, size) for _, name, size in types] == [("q4_0", 64 * 18), ("q4_0", 8 * 18)]


@pytest.mark.parametrize(
    ("shape", "precision", "context", "measured"),
    [
        (LLAMA, "fp16", 2048, 639),
        (LLAMA, "q4_k_m", 512, 277),
        (LLAMA, "q4_0", 2048, 345),
        (GEMMA, "q6_k", 512, 246),
        (GEMMA, "iq4_xs", 2048, 242),
    ],
)
def test_peaks_are_within_five_per_cent_of_what_was_measured(
    shape: dict[str, object], precision: str, context: int, measured: float
) -> None:
    """MiB by benchmarks/plan/reality.py, of shapes that no constant was taken from."""
    model = facts_of(shape, name="random")
    assert served(model, precision, context).total / MIB == pytest.approx(measured, rel=0.05)
