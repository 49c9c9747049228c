"""Fixed shapes: how they are asked for, what a model and a target take, what a bundle says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_folder import write_model
from proved_job import job
from typed import typed

from edgeward.compiler.shape_verify import turns_of, worst
from edgeward.compiler.shapes import (
    DYNAMIC,
    FixedShapes,
    axes_of,
    parse_shapes,
    shapes_for,
    stem_of,
)
from edgeward.compiler.source import Source
from edgeward.errors import EdgewardError, UnsupportedError, UsageError
from edgeward.runtimes.engines.bucketed import listed
from edgeward.targets.load import load as load_profile
from edgeward.targets.profile import Profile, Shapes

USAGE = 2


def source(folder: Path, task: str = "feature-extraction", model_type: str = "bert") -> Source:
    return replace(job().source, folder=folder, task=task, model_type=model_type)


def wanting(mode: str, **allowed: tuple[int, ...]) -> Profile:
    return replace(load_profile("kiosk-x86"), shapes=Shapes(mode, allowed))


def test_shapes_are_read_as_they_are_written() -> None:
    found = parse_shapes(" batch=1, sequence = 256|64 |64")
    assert found == {"batch": (1,), "sequence": (64, 256)}
    fixed = FixedShapes(tuple(found.items()))
    assert str(fixed) == "batch=1,sequence=64|256"
    assert parse_shapes(str(fixed)) == found
    assert fixed.buckets() == [{"batch": 1, "sequence": 256}, {"batch": 1, "sequence": 64}]
    assert [stem_of(sizes) for sizes in fixed.buckets()][1] == "batch1_sequence64"
    assert not DYNAMIC
    assert DYNAMIC.buckets() == []


@pytest.mark.parametrize(
    "text",
    ["", "batch", "batch=", "batch=x", "batch=0", "batch=-1", "=1", "batch=1,batch=2", "batch=1,",
     "batch=1|", "batch=1.5", "batch=99999999", "b c=1", "batch=\u0661", "../x=1"],
)  # fmt: skip
def test_what_is_not_written_so_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be read") as caught:
        parse_shapes(text)
    assert "batch=1,sequence=128|256" in caught.value.next


@given(st.text(max_size=30))
def test_any_text_is_shapes_or_refused(text: str) -> None:
    try:
        assert all(sizes for sizes in parse_shapes(text).values())
    except EdgewardError as error:
        assert error.why


def test_each_kind_of_model_has_its_axes(tmp_path: Path) -> None:
    text = source(tmp_path)
    assert axes_of(text) == ("batch", "sequence")
    assert axes_of(replace(text, task="image-classification")) == ("batch",)
    heard = replace(text, task="audio-classification")
    assert axes_of(replace(heard, model_type="wavlm")) == ("batch", "samples")
    assert axes_of(replace(heard, model_type="audio-spectrogram-transformer")) == ("batch",)
    both = replace(text, task="zero-shot-image-classification")
    assert axes_of(replace(both, model_type="clip")) == ("texts", "sequence", "images")
    assert axes_of(replace(both, model_type="siglip")) == ("texts", "images")


def test_rows_are_one_unless_they_are_given(tmp_path: Path) -> None:
    profile = load_profile("kiosk-x86")
    found = shapes_for(source(tmp_path), profile, "onnx", {"sequence": (16,)})
    assert str(found) == "batch=1,sequence=16"
    assert shapes_for(source(tmp_path), profile, "onnx", None) is DYNAMIC
    pictures = source(tmp_path, "image-classification", "vit")
    assert str(shapes_for(pictures, profile, "onnx", {"batch": (2, 4)})) == "batch=2|4"


def test_a_target_that_wants_fixed_shapes_gets_them(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 100}))
    one, some = wanting("static", sequence=(64,)), wanting("enumerated", sequence=(64, 128, 512))
    assert str(shapes_for(source(tmp_path), one, "onnx", None)) == "batch=1,sequence=64"
    assert str(shapes_for(source(tmp_path), some, "onnx", None)) == "batch=1,sequence=64|100"
    own = shapes_for(source(tmp_path), some, "onnx", {"sequence": (64,), "batch": (3,)})
    assert str(own) == "batch=3,sequence=64"
    with pytest.raises(UnsupportedError, match="kiosk-x86 does not take sequence=32"):
        shapes_for(source(tmp_path), some, "onnx", {"sequence": (32,)})
    with pytest.raises(UsageError, match="size for sequence") as caught:
        shapes_for(source(tmp_path), wanting("static", batch=(1,)), "onnx", None)
    assert "kiosk-x86" in caught.value.why


@pytest.mark.parametrize(
    ("task", "model_type", "given_", "words"),
    [
        ("feature-extraction", "bert", {"samples": (5,)}, "its axes are batch, sequence"),
        ("image-classification", "vit", {"sequence": (5,)}, "its axes are batch"),
        ("feature-extraction", "bert", {"sequence": (101,)}, "at most 100"),
        ("feature-extraction", "bert", {"batch": (1,)}, "given: batch"),
        (
            "feature-extraction",
            "bert",
            {"batch": tuple(range(1, 12)), "sequence": (8, 16, 32)},
            "at most 32",
        ),
        ("text-generation", "llama", {"batch": (1,)}, "cache grows"),
        ("text2text-generation", "t5", {"batch": (1,)}, "cache grows"),
        ("automatic-speech-recognition", "whisper", {"batch": (1,)}, "cache grows"),
        ("ctc", "wav2vec2", {"batch": (2,)}, "given: batch"),
    ],
)
def test_what_a_model_cannot_have_is_told(
    tmp_path: Path, task: str, model_type: str, given_: Any, words: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 100}))
    with pytest.raises((UsageError, UnsupportedError)) as caught:
        shapes_for(source(tmp_path, task, model_type), load_profile("kiosk-x86"), "onnx", given_)
    assert words in caught.value.why


def test_another_format_has_none(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="gguf has no fixed shapes"):
        shapes_for(source(tmp_path), load_profile("kiosk-x86"), "gguf", {"batch": (1,)})


@pytest.mark.parametrize(
    ("shapes", "words"), [("depth=3", "its axes are batch, sequence"), ("batch", "cannot be read")]
)
def test_the_command_refuses_before_work_begins(tmp_path: Path, shapes: str, words: str) -> None:
    model = write_model(tmp_path / "model")
    done = typed("compile", model, "-t", "kiosk-x86", "--shapes", shapes, "--dry-run")
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert words in done.stderr


def test_the_worst_of_all_shapes_counts() -> None:
    good = {
        "cosine_min": 0.9,
        "untraced_relative_difference": 0.05,
        "token_ids_equal": 1.0,
        "eval_boxes_iou": 0.9,
        "eval_depth_error": 0.1,
        "eval_cer": 0.0,
    }
    bad = {
        "cosine_min": 0.8,
        "untraced_relative_difference": 0.1,
        "token_ids_equal": 0.5,
        "eval_boxes_iou": 0.8,
        "eval_depth_error": 0.2,
        "eval_cer": 0.1,
    }
    assert worst([good, bad]) == worst([bad, good]) == bad


def bucket(path: str, **sizes: int) -> dict[str, Any]:
    return {"path": path, "sizes": sizes}


def test_every_graph_has_its_turn_beside_those_that_hold_the_rest() -> None:
    text = {"name": "input_ids", "dtype": "int64", "shape": ["batch", "sequence"]}
    mask = {**text, "name": "attention_mask"}
    found = turns_of(
        listed({
            "inputs": [text, mask], "outputs": [], "padding": {},
            "buckets": [
                bucket("a", batch=4, sequence=8), bucket("b", batch=4, sequence=2),
                bucket("c", batch=1, sequence=8),
            ],
        })
    )  # fmt: skip
    assert [[one.path for one in turn] for turn in found] == [["a"], ["a", "b"], ["a", "c"]]
    sound = {"name": "input_values", "dtype": "float", "shape": ["batch", "samples"]}
    found = turns_of(
        listed({
            "inputs": [sound], "outputs": [], "padding": {},
            "buckets": [
                bucket("a", batch=4, samples=8), bucket("b", batch=4, samples=2),
                bucket("c", batch=1, samples=8), bucket("d", batch=1, samples=2),
            ],
        })
    )  # fmt: skip
    assert [[one.path for one in turn] for turn in found] == [
        ["b", "a"],
        ["a", "b"],
        ["b", "a", "c"],
        ["b", "a", "d"],
    ]
