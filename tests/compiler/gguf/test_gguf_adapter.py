"""Adapters: what is refused, and that merging is PEFT's arithmetic."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_adapter import make_adapter
from safetensors.numpy import load_file, save_file
from split_gguf import FLOAT32, STRING, UINT32, write_gguf

from edgeward.compiler.adapter import adapter_name, read_adapter
from edgeward.compiler.formats.gguf_adapter import check_separate
from edgeward.errors import EdgewardError, EngineError, SourceError, UnsupportedError
from edgeward.runtimes.bundle.gguf_header import read_header
from edgeward.runtimes.engines.llama_adapter import checked_adapter

PREFIX = "base_model.model.layers.0.q_proj"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    generator = np.random.default_rng(0)
    weights = {
        "layers.0.q_proj.weight": generator.standard_normal((6, 8)).astype(np.float32),
        "layers.0.v_proj.weight": generator.standard_normal((4, 8)).astype(np.float16),
        "embed_tokens.weight": generator.standard_normal((10, 8)).astype(np.float32),
    }
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture
def adapter(tmp_path: Path, model: Path) -> Path:
    return make_adapter(tmp_path / "polite tone", model, rank=2)


def set_settings(adapter: Path, **settings: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def set_tensors(adapter: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_a_plain_adapter_is_read(adapter: Path, model: Path) -> None:
    found = read_adapter(adapter, model)
    assert [pair.tensor for pair in found.pairs] == [
        "layers.0.q_proj.weight",
        "layers.0.v_proj.weight",
    ]
    assert [(pair.rank, pair.scale) for pair in found.pairs] == [(2, 1.0)] * 2
    assert found.is_plain
    assert adapter_name(adapter) == "polite-tone"
    check_separate(found)


@pytest.mark.parametrize(
    ("settings", "scales", "plain"),
    [
        ({"lora_alpha": 8}, (4.0, 4.0), True),
        ({"lora_alpha": 8, "use_rslora": True}, (8 / 2**0.5, 8 / 2**0.5), False),
        ({"lora_alpha": 8, "alpha_pattern": {"v_proj": 2}}, (4.0, 1.0), False),
        ({"lora_alpha": 8, "alpha_pattern": {"0.v_proj": 2, "proj": 1}}, (4.0, 1.0), False),
    ],
)
def test_scales_are_pefts(
    settings: dict[str, Any], scales: tuple[float, ...], plain: bool, adapter: Path, model: Path
) -> None:
    set_settings(adapter, **settings)
    found = read_adapter(adapter, model)
    assert tuple(pair.scale for pair in found.pairs) == pytest.approx(scales)
    assert found.is_plain is plain


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peft_type": "IA3"}, "no LoRA"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"init_lora_weights": "PiSSA_niter_16"}, "PiSSA"),
        ({"alora_invocation_tokens": [1]}, "alora"),
        ({"alpha_pattern": {"(.*)+$": 2}}, "regular expression"),
        ({"alpha_pattern": [1]}, "not a JSON object"),
        ({"lora_alpha": "16"}, "not a number"),
        ({"lora_alpha": True}, "not a number"),
        ({"lora_alpha": 0}, "changes nothing"),
        ({"use_dora": True}, "disagree about DoRA"),
        ({"fan_in_fan_out": True}, "does not fit the model"),
    ],
)
def test_settings_that_mean_more_are_refused(
    settings: dict[str, Any], words: str, adapter: Path, model: Path
) -> None:
    set_settings(adapter, **settings)
    with pytest.raises((SourceError, UnsupportedError)) as refused:
        read_adapter(adapter, model)
    assert words in str(refused.value)


def test_weights_that_do_not_fit_are_refused(adapter: Path, model: Path) -> None:
    def expect(words: str, change: Callable[[dict[str, Any]], None]) -> None:
        before = (adapter / "adapter_model.safetensors").read_bytes()
        set_tensors(adapter, change)
        with pytest.raises(EdgewardError) as refused:
            read_adapter(adapter, model)
        assert words in str(refused.value)
        (adapter / "adapter_model.safetensors").write_bytes(before)

    floats = np.ones((2, 8), np.float32)
    a, b = f"{PREFIX}.lora_A.weight", f"{PREFIX}.lora_B.weight"
    expect("does not fit the model", lambda t: t.update({a: np.ones((2, 9), np.float32)}))
    expect("does not fit together", lambda t: t.update({a: np.ones((3, 8), np.float32)}))
    expect("does not fit together", lambda t: t.update({a: np.ones((2, 8), np.int32)}))
    expect("does not fit together", lambda t: t.update({a: np.ones((16,), np.float32)}))
    expect("lacks one of a pair", lambda t: t.pop(b))
    expect("no part of a pair", lambda t: t.update({f"{PREFIX}.weight": floats}))
    expect("no part of a pair", lambda t: t.update({"lora_A.weight": floats}))
    other = "base_model.model.layers.9.q_proj.lora_"
    added = {f"{other}A.weight": floats, f"{other}B.weight": np.ones((6, 2), np.float32)}
    expect("that the model has not", lambda t: t.update(added))
    table = "base_model.model.embed_tokens.lora_embedding_"
    embedding = {f"{table}A": np.ones((2, 10), np.float32), f"{table}B": np.ones((8, 2), "f4")}
    expect("no output layer of its own", lambda t: t.update(embedding))
    expect("changes no weight", lambda t: t.clear())


def test_pickles_links_and_damage_are_refused(tmp_path: Path, adapter: Path, model: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    outside = tmp_path / "outside.safetensors"
    weights.rename(outside)
    weights.symlink_to(outside)
    with pytest.raises(SourceError, match="leads out"):
        read_adapter(adapter, model)
    weights.unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(SourceError, match=r"(?s)has no .*pickle"):
        read_adapter(adapter, model)
    weights.write_bytes(outside.read_bytes()[:-8])
    with pytest.raises(SourceError, match="not a whole safetensors"):
        read_adapter(adapter, model)
    (adapter / "adapter_config.json").write_text("[" * 100_000)
    with pytest.raises(SourceError, match="cannot be read"):
        read_adapter(adapter, model)
    with pytest.raises(SourceError, match="No adapter at"):
        read_adapter(tmp_path / "nowhere", model)


def test_the_engine_refuses_what_llama_cpp_would_not_survive(tmp_path: Path) -> None:
    model = read_header(write_gguf(tmp_path / "model.gguf"))
    good: dict[str, tuple[int, Any]] = {
        "general.architecture": (STRING, "llama"),
        "general.type": (STRING, "adapter"),
        "adapter.type": (STRING, "lora"),
        "adapter.lora.alpha": (FLOAT32, 4.0),
    }
    path = write_gguf(tmp_path / "good.gguf", good)
    assert checked_adapter(path, model) == path
    for change, words in (
        ({"adapter.lora.alpha": (UINT32, 4)}, "float32"),
        ({"adapter.type": (UINT32, 4)}, "is not lora"),
        ({"general.architecture": (STRING, "bert")}, "is for bert"),
        ({"general.type": (STRING, "model")}, "is not adapter"),
        ({"adapter.alora.invocation_tokens": (UINT32, 4)}, "not known"),
    ):
        with pytest.raises(EngineError) as refused:
            checked_adapter(write_gguf(tmp_path / "bad.gguf", {**good, **change}), model)
        assert words in str(refused.value)
    with pytest.raises(EngineError, match="cannot be applied"):
        checked_adapter(tmp_path / "nowhere.gguf", model)
