"""A GGUF file as a source: everything that is decided from its header alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_source_gguf import VOCABULARY, WIDTH, gguf_bytes, metadata, tensor_names, write_gguf
from tokenizers import Tokenizer

from edgeward.compiler.compile import CompileRequest, plan_bundles
from edgeward.compiler.dequantise import dequantised
from edgeward.compiler.dequantise_gguf_config import model_config
from edgeward.compiler.dequantise_gguf_names import placements
from edgeward.compiler.dequantise_gguf_tokenizer import (
    read_vocabulary,
    stop_ids,
    tokenizer_json,
)
from edgeward.compiler.source import open_source
from edgeward.compiler.source_gguf_header import read_header
from edgeward.errors import SourceError, StageError, UnsupportedError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWARD_CACHE", str(tmp_path / "cache"))


def test_a_file_is_a_source_before_any_work(tmp_path: Path) -> None:
    source = open_source(str(write_gguf(tmp_path / "tiny-Q4.gguf")))
    assert (source.id, source.architecture, source.task) == (
        "tiny-Q4",
        "LlamaForCausalLM",
        "text-generation",
    )
    assert source.license == "mit"
    assert source.packed is not None
    assert source.packed.types == {"F32": len(tensor_names())}
    floats = 4 * (VOCABULARY * WIDTH + 7 * WIDTH * WIDTH + 3 * WIDTH)
    assert source.weight_bytes == source.packed.float_bytes == floats


def test_bundles_are_planned_without_dequantising(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "tiny.gguf")
    request = CompileRequest(
        model=str(model), targets=("kiosk-x86",), output=tmp_path / "build", precisions=("fp32",)
    )
    source, plans = plan_bundles(request)
    assert source.packed is not None and len(plans) == 1
    assert not (tmp_path / "cache" / "stages").exists()


def test_another_content_is_another_source(tmp_path: Path) -> None:
    first = open_source(str(write_gguf(tmp_path / "a.gguf")))
    second = open_source(str(write_gguf(tmp_path / "b.gguf", llama__context_length=256)))
    assert first.digest != second.digest and first.folder != second.folder


CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": (
        {},
        {
            "model_type": "llama",
            "head_dim": WIDTH // 2,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
            "attention_bias": False,
        },
    ),
    "yarn": (
        {
            "llama__rope__scaling__type": "yarn",
            "llama__rope__scaling__factor": 4.0,
            "llama__rope__scaling__original_context_length": 32,
        },
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_metadata_becomes_a_configuration(name: str, tmp_path: Path) -> None:
    changes, wanted = CONFIGS[name]
    config = model_config(read_header(write_gguf(tmp_path / "m.gguf", **changes)))
    assert {key: config[key] for key in wanted} == wanted


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": ({"general__architecture": "mamba"}, "architecture 'mamba'"),
    "vocabulary": ({"tokenizer__ggml__model": "rwkv"}, "kind 'rwkv'"),
    "no vocabulary": ({"tokenizer__ggml__model": None}, "kind 'none'"),
    "cut": ({"tokenizer__ggml__pre": "kimi-k2"}, "cuts its texts as 'kimi-k2'"),
    "vectors": ({"llama__pooling_type": 3}, "decoder that gives vectors"),
    "positions": ({"llama__rope__scaling__type": "odd"}, "scales its positions by 'odd'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_written_is_refused_from_the_header(what: str, tmp_path: Path) -> None:
    changes, words = REFUSED[what]
    with pytest.raises(UnsupportedError, match=words):
        open_source(str(write_gguf(tmp_path / "m.gguf", **changes)))


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes(metadata(), {**tensor_names(), "blk.0.odd.weight": (4, 4)}))
    with pytest.raises(UnsupportedError, match=r"blk\.0\.odd\.weight has no place in a llama"):
        open_source(str(path))


def test_an_adapter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes(metadata(), {"blk.0.attn_q.weight.lora_a": (4, 4)}))
    with pytest.raises(UnsupportedError, match="no tensor token_embd"):
        open_source(str(path))


def test_rotary_factors_that_follow_no_rule_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes(metadata(), {**tensor_names(), "rope_freqs.weight": (8,)}))
    with pytest.raises(UnsupportedError, match="factors of its own"):
        open_source(str(path))


def test_a_vocabulary_that_does_not_fit_itself_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tokenizer__ggml__token_type=[1, 2, 3])
    with pytest.raises(SourceError, match="does not fit itself"):
        open_source(str(path))


def test_every_name_has_one_place(tmp_path: Path) -> None:
    placed = placements(read_header(write_gguf(tmp_path / "m.gguf")), "llama", tied=True)
    names = [one.name for one in placed]
    assert len(set(names)) == len(names) == len(tensor_names())
    assert "model.layers.0.self_attn.q_proj.weight" in names


def test_a_head_that_repeats_the_embedding_is_told_by_its_absence(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    head = {"output.weight": (VOCABULARY, WIDTH)}
    path.write_bytes(gguf_bytes(metadata(), {**tensor_names(), **head}))
    assert model_config(read_header(path))["tie_word_embeddings"] is False
    names = [one.name for one in placements(read_header(path), "llama", tied=False)]
    assert "lm_head.weight" in names


def test_first_and_last_tokens_follow_the_files_flags(tmp_path: Path) -> None:
    for begins in (True, False):
        path = write_gguf(
            tmp_path / "m.gguf",
            tokenizer__ggml__bos_token_id=0,
            tokenizer__ggml__add_bos_token=begins,
            tokenizer__ggml__add_eos_token=True,
        )
        header = read_header(path)
        made = tokenizer_json(header, read_vocabulary(header))
        ids = Tokenizer.from_str(json.dumps(made)).encode("").ids
        assert ids == ([0, 0] if begins else [0])


def test_answers_end_by_the_named_tokens_and_the_templates(tmp_path: Path) -> None:
    tokens = ["<|end|>", "<|im_end|>", "<|eot_id|>", *(f"t{n}" for n in range(VOCABULARY - 3))]
    path = write_gguf(tmp_path / "m.gguf", tokenizer__ggml__tokens=tokens)
    header = read_header(path)
    assert stop_ids(header, read_vocabulary(header)) == [0, 1]


def test_a_configuration_of_another_model_beside_it_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SourceError, match="another model"):
        open_source(str(path))


def test_a_disk_that_is_too_small_is_said_before_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(str(write_gguf(tmp_path / "m.gguf")))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("", (), {"free": 1000})())

    class Never:
        def run(self, spec: object) -> Any:
            raise AssertionError(spec)

    with pytest.raises(StageError, match="in floats"):
        dequantised(source, (), Never())
