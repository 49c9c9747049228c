"""Well-known models from their published configuration alone: parameters exact, caches as known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeward.errors import SourceError, UnsupportedError
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.gather import facts_of
from edgeward.targets.plan.memory import cache_bytes, training_of
from edgeward.targets.plan.precision import weights_of

CONFIGS = Path(__file__).parent / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.json"))
GIB = 2**30


def facts(name: str, **changes: object) -> ModelFacts:
    document = json.loads((CONFIGS / f"{name}.json").read_text())
    return facts_of({**document["config"], **changes}, name=name)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_the_published_ones(name: str) -> None:
    known = json.loads((CONFIGS / f"{name}.json").read_text())
    found = facts(name)
    assert found.parameters == known["parameters"]
    assert sum(found.parts.values()) == found.parameters
    assert known["source"]


# Model cards: Mixtral 12.9B, Qwen3 3.3B, gpt-oss 3.6B without the embedding, DeepSeek-V2-Lite 2.4B
# without both tables, DeepSeek-V3 37B.
@pytest.mark.parametrize(
    ("name", "active", "tables_left_out"),
    [
        ("mixtral-8x7b", 12.9e9, 0),
        ("qwen3-30b-a3b", 3.3e9, 0),
        ("gpt-oss-20b", 3.6e9, 1),
        ("deepseek-v2-lite", 2.4e9, 1),
        ("deepseek-v3", 37e9, 1),
    ],
)
def test_of_experts_only_the_chosen_are_active(
    name: str, active: float, tables_left_out: int
) -> None:
    found = facts(name)
    counted = found.active_parameters - tables_left_out * found.parts["embedding"]
    assert counted == pytest.approx(active, rel=0.03)


# Hand-computed: layers x 2 x kv heads x head size x 2 bytes a token.
@pytest.mark.parametrize(
    ("name", "context", "expected"),
    [
        ("llama-2-7b", 4096, 32 * 2 * 32 * 128 * 2 * 4096),
        ("llama-3.1-8b", 8192, 1 * GIB),
        ("gemma-2b", 8192, 18 * 2 * 1 * 256 * 2 * 8192),
        ("mistral-7b-v0.1", 32768, 32 * 2 * 8 * 128 * 2 * 4096),
        ("gemma-3-1b", 32768, 2 * 256 * 2 * (4 * 32768 + 22 * 512)),
        ("gemma-2-2b", 8192, 2 * 4 * 256 * 2 * (13 * 8192 + 13 * 4096)),
        ("gpt-oss-20b", 131072, 2 * 8 * 64 * 2 * (12 * 131072 + 12 * 128)),
        ("whisper-tiny", 448, 4 * 2 * 384 * 2 * (448 + 1500)),
        # DeepSeek-V3: 70,272 bytes a token, arXiv:2505.09343, table 1
        ("deepseek-v3", 1, 70_272),
        ("bert-base-uncased", 512, 0),
    ],
)
def test_the_cache_has_its_true_shape(name: str, context: int, expected: int) -> None:
    assert cache_bytes(facts(name), context, 1, 16) == expected


def test_a_cache_grows_with_sequences_and_shrinks_with_its_type() -> None:
    found = facts("llama-3.1-8b")
    assert cache_bytes(found, 1000, 3, 16) == 3 * cache_bytes(found, 1000, 1, 16)
    assert cache_bytes(found, 1000, 1, 8.5) * 16 == cache_bytes(found, 1000, 1, 16) * 8.5


def test_linear_layers_keep_a_state_whatever_the_length() -> None:
    hybrid = facts(
        "qwen3-0.6b",
        full_attention_interval=4,
        linear_num_value_heads=32,
        linear_value_head_dim=128,
        linear_num_key_heads=16,
        linear_key_head_dim=128,
        linear_conv_kernel_dim=4,
    )
    assert "21 of 28 layers linear" in hybrid.attention
    per_token = 7 * 2 * 8 * 128
    longer, shorter = (cache_bytes(hybrid, length, 1, 8) for length in (2000, 1000))
    assert longer - shorter == 1000 * per_token
    assert shorter - 1000 * per_token == 21 * (128 * 128 * 32 + 4 * (2 * 128 * 16 + 128 * 32))


# Files as published by their quantisers (TheBloke, bartowski, Qwen, ggml-org); what they have
# beyond the tensors is their tokenizer, 20 to 65 bytes a word.
@pytest.mark.parametrize(
    ("name", "mix", "size"),
    [
        ("llama-2-7b", "q4_0", 3_825_807_040),
        ("llama-2-7b", "q3_k_m", 3_298_004_672),
        ("llama-2-7b", "q4_k_s", 3_856_739_904),
        ("llama-2-7b", "q4_k_m", 4_081_004_224),
        ("llama-2-7b", "q5_k_m", 4_783_156_928),
        ("llama-2-7b", "q6_k", 5_529_194_176),
        ("llama-2-7b", "q8_0", 7_161_089_728),
        ("llama-2-13b", "q4_k_m", 7_865_956_224),
        ("llama-2-70b", "q4_k_m", 41_422_908_416),
        ("mistral-7b-v0.1", "q4_k_m", 4_368_438_944),
        ("tinyllama-1.1b", "q4_k_m", 668_788_096),
        ("llama-3.1-8b", "q4_k_m", 4_920_734_272),
        ("llama-3.2-1b", "q4_k_m", 807_694_464),
        ("llama-3.2-3b", "q4_k_m", 2_019_377_696),
        ("qwen2.5-7b", "q4_k_m", 4_683_073_536),
        ("qwen2.5-1.5b", "q4_k_m", 986_048_768),
        ("gemma-2-9b", "q4_k_m", 5_761_057_728),
        ("qwen3-30b-a3b", "q4_k_m", 18_556_686_912),
        ("gpt-oss-20b", "mxfp4_moe", 12_109_566_560),
        ("smollm2-135m", "q4_k_m", 105_454_432),
    ],
)
def test_a_gguf_file_has_the_published_size(name: str, mix: str, size: int) -> None:
    found = facts(name)
    tokenizer = size - weights_of(found, "gguf", mix).stored
    assert 20 * found.vocabulary < tokenizer < 70 * found.vocabulary


# benchmarks/onnx/report/report.md: MiB of the bundles made here, graph and configuration with them.
@pytest.mark.parametrize(
    ("precision", "mebibytes"),
    [("fp32", 513.3), ("int8-dynamic", 129.3), ("int8-weights", 144.5), ("int4-weights", 80.4)],
)
def test_an_onnx_bundle_has_the_measured_size(precision: str, mebibytes: float) -> None:
    stored = weights_of(facts("smollm2-135m"), "onnx", precision).stored
    assert stored / 2**20 == pytest.approx(mebibytes, rel=0.01)


def test_training_takes_sixteen_bytes_a_parameter_and_less_with_adapters() -> None:
    found = facts("llama-3.1-8b")
    training = training_of(found, context=512, batch=1)
    assert training.full - training.activations == 16 * found.parameters
    # PEFT prints it for rank 16 on all linear layers of Llama 3.1 8B
    assert training.adapter_parameters == 41_943_040
    assert training.qlora < training.lora < training.full / 5


def test_an_unknown_architecture_without_weights_is_refused_in_words() -> None:
    with pytest.raises(UnsupportedError, match=r"cannot be told from config\.json alone"):
        facts_of({"model_type": "newmodel", "hidden_size": 8})


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "big"},
        {"hidden_size": -1},
        {"num_hidden_layers": 2**40},
        {"vocab_size": None},
        {"num_attention_heads": True},
        {"num_hidden_layers": 3_000_000},
    ],
)
def test_a_hostile_configuration_is_refused_in_words(changes: dict[str, object]) -> None:
    with pytest.raises(SourceError, match=r"config\.json"):
        facts("llama-2-7b", **changes)
