"""Pictures and sounds of one's own, to calibrate with and to prove on, in tiny models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from fresh_cache import fresh_cache
from tiny_heads import tiny_heads

from edgeward.compiler.compile import CompileRequest, compile_model, stage_runner
from edgeward.compiler.progress import NullReporter
from edgeward.errors import UsageError
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.proof.golden import run_golden

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PACKAGED = ROOT / "compiler" / "data"
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
Compile = Callable[..., list[Bundle]]


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(tiny_heads(), tmp_path_factory.mktemp("heads") / "heads")
    numbers = {letter: number for number, letter in enumerate(LETTERS)}
    (folder / "ctc" / "wav2vec2" / "vocab.json").write_text(json.dumps(numbers))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for path in (PACKAGED / "pictures").glob("*.png"):
        shutil.copy(path, folder)
    rows = [
        {"image": path.name, "label": f"LABEL_{number}"}
        for number, path in enumerate(sorted(folder.glob("*.png")))
    ]
    (folder / "labelled.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def compiled(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compile]:
    """One runner for all models: torch is imported once."""
    out = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        with stage_runner(CompileRequest("", (), out), NullReporter()) as stages:

            def run(task: str, model_type: str, *precisions: str, **more: Any) -> list[Bundle]:
                request = CompileRequest(
                    model=str(heads / task / model_type),
                    targets=("x86-64-cpu",),
                    output=out / task,
                    precisions=precisions,
                    accept_degraded=True,
                    task=task,
                    **more,
                )
                return [one.bundle for one in compile_model(request, runner=stages)]

            yield run


@pytest.mark.parametrize(
    ("task", "model_type", "figure"),
    [
        ("object-detection", "yolos", "boxes_matched"),
        ("semantic-segmentation", "segformer", "classes_iou"),
    ],
)
def test_pictures_calibrate_and_prove(
    compiled: Compile, pictures: Path, task: str, model_type: str, figure: str
) -> None:
    exact, rounded = compiled(
        task, model_type, "fp32", "int8-static", evaluation=pictures, calibration=pictures
    )
    proof, other = exact.manifest.proof, rounded.manifest.proof
    assert not proof.degraded
    assert proof.figures[figure] == proof.figures[f"eval_{figure}"] == 1
    assert proof.figures["pixels_difference"] < 1e-4
    assert proof.figures["files_cosine_min"] > 0.99999
    assert proof.figures["eval_pixels_difference"] < 1e-4
    assert 0 < other.figures[f"eval_{figure}"] <= 1
    assert proof.evaluation_sha256 == other.evaluation_sha256
    assert rounded.manifest.recipe.calibration_sha256
    assert exact.manifest.recipe.calibration_sha256 is None
    report = run_golden(exact, threads=1)
    assert report.passed
    assert {check.metric for check in report.checks} >= {figure, "pixels_difference"}


def test_labels_are_counted_for_both(compiled: Compile, pictures: Path) -> None:
    (bundle,) = compiled(
        "image-classification", "vit", "fp32", evaluation=pictures / "labelled.jsonl"
    )
    figures = bundle.manifest.proof.figures
    assert figures["eval_accuracy"] == figures["eval_accuracy_original"]
    with pytest.raises(UsageError, match="image-classification"):
        compiled("image-classification", "vit", "fp32", evaluation=PACKAGED / "sentences.txt")


def test_a_bundle_whose_settings_are_others_is_caught(compiled: Compile, heads: Path) -> None:
    (bundle,) = compiled("image-classification", "vit", "fp32")
    settings = bundle.path / "preprocessor_config.json"
    stated = json.loads(settings.read_text())
    assert stated["image_mean"] == [0.5, 0.5, 0.5]
    assert run_golden(bundle, threads=1).passed
    settings.write_text(json.dumps({**stated, "image_mean": [0.4, 0.4, 0.4]}))
    short = [check.metric for check in run_golden(bundle, threads=1).checks if not check.passed]
    assert "pixels_difference" in short


def test_sounds_prove_what_is_written(compiled: Compile, tmp_path: Path) -> None:
    for path in (PACKAGED / "speech").glob("*.wav"):
        shutil.copy(path, tmp_path)
    told = {"audio": "counting.wav", "text": "one two three"}
    (tmp_path / "told.jsonl").write_text(json.dumps(told))
    exact, _rounded = compiled(
        "ctc", "wav2vec2", "fp32", "int8-static",
        evaluation=tmp_path / "told.jsonl", calibration=tmp_path,
    )  # fmt: skip
    proof = exact.manifest.proof
    assert not proof.degraded
    assert proof.figures["eval_wer"] == proof.figures["eval_cer"] == 0
    assert proof.figures["features_difference"] < 1e-4
    assert proof.figures["eval_transcript_wer"] == proof.figures["eval_transcript_wer_original"] > 0
    assert run_golden(exact, threads=1).passed
