"""One task of each kind of model in both mobile formats: proved as it is, and in int8."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
from fresh_cache import fresh_cache
from matrix import sampled
from mobile_pairs import PAIRS
from tiny_heads import tiny_heads

from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.formats.registry import format_module
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner

TARGETS = {"tflite": "android-mid", "coreml": "iphone-15-pro"}
PRECISIONS = {"tflite": ("fp32", "int8-dynamic"), "coreml": ("fp16", "int8-weights")}
SHAPES = {"batch": "batch=1", "sequence": "sequence=24", "samples": "samples=4000"}
HALF, EXACT = 0.9999, 0.999999
# A random detector whose scores lie close together: measured 0.9999984.
CLOSE = {("tflite", "yolos"): 0.999998}
ROUNDED = 0.98
ROWS = [(*pair, format_name) for pair in PAIRS for format_name in TARGETS]
# Every run shows these in both formats: texts, maps of pictures, sounds, pictures beside texts.
BOTH = {"clip", "deberta-v2", "segformer", "wav2vec2"}
# These in one, in turn: of texts, of pictures (convolutions, patches and windows, boxes), of
# spectrograms. The others, whose bodies are close to those of others, in none.
ONE = (
    *("bert", "modernbert", "roberta", "mpnet"),
    *("convnext", "mobilenet_v2", "dinov2", "swin", "detr", "yolos"),
    "audio-spectrogram-transformer",
)


def always() -> list[tuple[str, str, str]]:
    turns = dict(zip(ONE, cycle(TARGETS), strict=False))
    return [row for row in ROWS if row[1] in BOTH or turns.get(row[1]) == row[2]]


def test_enough_architectures_are_tried_and_each_is_taken() -> None:
    assert len({model_type for _, model_type in PAIRS}) >= 25
    for name in TARGETS:
        coverage = format_module(name).coverage()
        assert [pair for pair in PAIRS if not coverage.takes(*pair, "")] == []


@pytest.fixture(scope="module")
def heads() -> Path:
    return tiny_heads()


@pytest.fixture(scope="module")
def runner(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageRunner]:
    """One for all models: torch is imported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        with stage_runner(CompileRequest("", (), heads), NullReporter()) as stages:
            yield stages


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("task", "model_type", "format_name"), sampled(ROWS, *always()))
def test_it_compiles_and_agrees(
    runner: StageRunner, heads: Path, tmp_path: Path, task: str, model_type: str, format_name: str
) -> None:
    exact, rounded = _compiled(runner, heads, tmp_path, task, model_type, format_name)
    usual = EXACT if format_name == "tflite" else HALF
    least = CLOSE.get((format_name, model_type), usual)
    assert exact.bundle.manifest.proof.figures["eval_cosine_mean"] > least
    assert rounded.bundle.manifest.proof.figures["eval_cosine_mean"] > ROUNDED
    assert rounded.bundle.manifest.size < exact.bundle.manifest.size


def _compiled(
    runner: StageRunner, heads: Path, output: Path, task: str, model_type: str, format_name: str
) -> list[Compiled]:
    from edgeward.compiler.shapes import axes_of
    from edgeward.compiler.source import open_source

    folder = heads / task / model_type
    coverage = format_module(format_name).coverage()
    source = open_source(str(folder), revision=None, task=task, coverages=[coverage])
    request = CompileRequest(
        model=str(folder),
        targets=(TARGETS[format_name],),
        output=output,
        precisions=PRECISIONS[format_name],
        format=format_name,
        task=task,
        shapes=",".join(SHAPES[axis] for axis in axes_of(source) if axis in SHAPES) or None,
        accept_degraded=True,
    )
    return list(compile_model(request, runner=runner))
