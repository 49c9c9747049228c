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
# Backbones that no rule knows: their operations cannot be told.
UNKNOWN: dict[str, dict[str, object]] = {
    "detr": {"d_model": 256, "use_timm_backbone": True, "backbone": "swin_tiny"},
    "dpt": {"is_hybrid": True, "hidden_size": 768, "num_hidden_layers": 12},
    "depth_anything": {"backbone_config": {"model_type": "vit"}},
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


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_backbone_is_planned_by_its_weights_without_a_time(
    tmp_path: Path, name: str
) -> None:
    facts = seen(tmp_path, model_type=name, **UNKNOWN[name])
    assert facts.parameters == 100_000
    row = plan_model(facts, load("x86-64-cpu"), Recipe("onnx", "fp32"))
    assert row.memory.weights == 400_000
    assert row.memory.activations < 1024
    assert (row.ttft_s, row.tpot_s, row.memory.cache) == (None, None, 0)
    assert row.fits
    assert "planned by its weights alone" in headline(facts, row.context, 1)


def test_pictures_are_named_by_their_size(tmp_path: Path) -> None:
    facts = seen(tmp_path, model_type="swin", image_size=384)
    row = plan_model(facts, load("x86-64-cpu"), Recipe("onnx", "fp32"))
    assert row.ttft_s is not None
    assert "pictures of 384 x 384" in headline(facts, row.context, 1)


def test_heights_and_widths_apart_are_a_square_as_large(tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape = {"image_size": [64, 144], "patch_size": 16}
    facts = seen(tmp_path, model_type="yolos", **sizes, **shape)
    assert facts.encoder_tokens == 6 * 6 + 1
    row = plan_model(facts, load("x86-64-cpu"), Recipe("onnx", "fp32"))
    assert row.ttft_s is not None
    assert row.tpot_s is None


def test_llama_cpp_is_told_to_run_no_pictures(tmp_path: Path) -> None:
    facts = seen(tmp_path, model_type="swin")
    row = plan_model(facts, load("x86-64-cpu"), Recipe("gguf", "q4_0"))
    assert not row.fits
    assert "no model of pictures" in row.reason
