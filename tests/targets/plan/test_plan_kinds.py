"""Which kind of model a type is, and pictures that are seen in stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeward.compiler.architectures import MODEL_TYPES
from edgeward.targets.load import load
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.layouts import kind_of_model
from edgeward.targets.plan.predict import plan_model
from edgeward.targets.plan.read import read_facts
from edgeward.targets.plan.show import headline
from edgeward.targets.profile import Recipe

KINDS = {
    **dict.fromkeys(("feature-extraction", "fill-mask", "ctc"), "encoder"),
    **dict.fromkeys(("text-classification", "token-classification"), "encoder"),
    "question-answering": "encoder",
    "text-generation": "decoder",
    **dict.fromkeys(("text2text-generation", "automatic-speech-recognition"), "encoder-decoder"),
    **dict.fromkeys(("image-feature-extraction", "image-classification"), "vision"),
    **dict.fromkeys(("semantic-segmentation", "object-detection", "depth-estimation"), "vision"),
}
STAGES: dict[str, dict[str, object]] = {
    "swin": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]},
    "segformer": {
        "hidden_sizes": [32, 64],
        "depths": [2, 2],
        "num_attention_heads": [1, 2],
        "image_size": 128,
    },
    "detr": {"d_model": 256, "encoder_layers": 6, "decoder_layers": 6},
}


def seen(folder: Path, **config: object) -> ModelFacts:
    (folder / "config.json").write_text(json.dumps(config))
    rows = {"embed": {"dtype": "F32", "shape": [1000, 100], "data_offsets": [0, 0]}}
    text = json.dumps(rows).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    return read_facts(str(folder))


@pytest.mark.parametrize("task", KINDS)
def test_what_is_compiled_is_planned_as_what_it_is(task: str) -> None:
    wrong = {name: kind_of_model(name) for name in MODEL_TYPES[task]}
    assert {name for name, kind in wrong.items() if kind != KINDS[task]} == set()


@pytest.mark.parametrize("name", STAGES)
def test_stages_are_planned_by_their_weights_without_a_time(tmp_path: Path, name: str) -> None:
    facts = seen(tmp_path, model_type=name, **STAGES[name])
    assert facts.parameters == 100_000
    row = plan_model(facts, load("x86-64-cpu"), Recipe("onnx", "fp32"))
    assert row.memory.weights == 400_000
    assert row.memory.activations < 1024
    assert (row.ttft_s, row.tpot_s, row.memory.cache) == (None, None, 0)
    assert row.fits
    assert "planned by its weights alone" in headline(facts, row.context, 1)


def test_heights_and_widths_apart_are_a_square_as_large(tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape = {"image_size": [64, 144], "patch_size": 16}
    facts = seen(tmp_path, model_type="yolos", **sizes, **shape)
    assert facts.encoder_tokens == 6 * 6 + 1
    row = plan_model(facts, load("x86-64-cpu"), Recipe("onnx", "fp32"))
    assert row.ttft_s is not None
    assert row.tpot_s is None


def test_llama_cpp_is_told_to_run_no_pictures(tmp_path: Path) -> None:
    facts = seen(tmp_path, model_type="swin", **STAGES["swin"])
    row = plan_model(facts, load("x86-64-cpu"), Recipe("gguf", "q4_0"))
    assert not row.fits
    assert "no model of pictures" in row.reason
