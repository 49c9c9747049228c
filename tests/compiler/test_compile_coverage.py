"""Every task and architecture as a tiny random model: compiles, loads, agrees, quantised too."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from fresh_cache import fresh_cache
from matrix import sampled
from tiny_heads import tiny_heads

from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.coverage import coverage_cases
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import SourceError, UnsupportedError
from edgeward.runtimes import load
from edgeward.runtimes.proof.golden import run_golden

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
FLOAT32_DIFFERENCE = 1e-4
# Of a model with random weights, few logits that are almost equal: over their small spread float32
# itself is 6e-5 to 1.2e-4 off, by processor and memory.
ALMOST_EQUAL = {"clip": 5e-4}
TEXT = "Where is gate B12, and when does the train leave?"
WITHOUT_PRODUCTS = {"mobilenet_v2", "regnet", "resnet"}
TEXT_HEADS = {"fill-mask", "text-classification", "token-classification", "question-answering"}
# Every head of theirs, of the texts' those of one alone.
WHOLE = {"bert", "segformer"}
# Built of the parts of vit, convnext, dinov2, resnet, swin, segformer and wavlm; dpt and mobilevit
# are among the pictures', wav2vec2 among those of fixed shapes.
AKIN = {
    ("audio-classification", "hubert"),
    ("audio-classification", "wav2vec2"),
    ("depth-estimation", "dpt"),
    ("depth-estimation", "glpn"),
    ("image-feature-extraction", "convnextv2"),
    ("image-feature-extraction", "deit"),
    ("image-feature-extraction", "dinov2_with_registers"),
    ("image-feature-extraction", "mobilevit"),
    ("image-feature-extraction", "regnet"),
    ("image-feature-extraction", "swinv2"),
}
Compile = Callable[..., Compiled]


@pytest.fixture(scope="module")
def python() -> Path:
    return Toolchains().ensure("onnx", NullReporter()).python


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


@pytest.fixture
def compiled(runner: StageRunner, heads: Path, tmp_path: Path) -> Compile:
    """Compiles a model by the task whose head it has, and its type."""

    def run(held: str, model_type: str, precision: str = "fp32", **more: Any) -> Compiled:
        request = CompileRequest(
            model=str(heads / held / model_type),
            targets=("x86-64-cpu",),
            output=tmp_path / "build",
            precisions=(precision,),
            accept_degraded=True,
            **{"task": held, **more},
        )
        (one,) = compile_model(request, runner=runner)
        return one

    return run


def always() -> list[tuple[str, str]]:
    """Every task, and every body that is not akin to another once, rounded too.

    Text encoders' bodies are test_compile_architectures.py's.
    """
    pairs = [pair for pair in coverage_cases() if pair[0] not in TEXT_HEADS or pair[1] in WHOLE]
    tasks = {pair[0]: pair for pair in pairs if pair[1] in WHOLE}
    for pair in pairs:
        tasks.setdefault(pair[0], pair)
    return [
        pair
        for pair in pairs
        if pair not in AKIN and (pair[1] in WHOLE or _is_rounded(*pair) or pair == tasks[pair[0]])
    ]


def _is_rounded(task: str, model_type: str) -> bool:
    """Whether it is rounded too: of a body with several heads the first alone."""
    return task == next(first for first, other in coverage_cases() if other == model_type)


@pytest.mark.parametrize(("task", "model_type"), sampled(coverage_cases(), *always()))
def test_it_compiles_and_agrees(compiled: Compile, task: str, model_type: str) -> None:
    exact = compiled(task, model_type)
    proof = exact.bundle.manifest.proof
    assert proof.figures["untraced_relative_difference"] < FLOAT32_DIFFERENCE
    assert proof.figures["relative_difference"] < FLOAT32_DIFFERENCE
    assert proof.figures.get("eval_top1_agreement", 1.0) > 0.999
    assert not proof.degraded
    assert exact.bundle.manifest.task == task
    if not _is_rounded(task, model_type):
        return
    half = compiled(task, model_type, "fp16").bundle.manifest
    assert half.proof.figures["eval_cosine_mean"] > 0.9999
    assert half.size < exact.bundle.manifest.size
    if model_type in WITHOUT_PRODUCTS:
        with pytest.raises(UnsupportedError, match="nothing to quantise"):
            compiled(task, model_type, "int8-dynamic")
        return
    quantised = compiled(task, model_type, "int8-dynamic")
    assert quantised.bundle.manifest.proof.figures["eval_cosine_mean"] > 0.99
    assert quantised.bundle.manifest.size < exact.bundle.manifest.size


def test_a_bundle_of_any_task_proves_itself_again(compiled: Compile) -> None:
    for task, model_type in (("object-detection", "yolos"), ("text-classification", "bert")):
        report = run_golden(compiled(task, model_type).bundle, threads=1)
        assert report.passed
        assert report.cases >= 6
        assert report.latency_ms["p50"] > 0


def test_the_task_is_read_from_the_configuration(compiled: Compile) -> None:
    for task in ("token-classification", "fill-mask"):
        assert compiled(task, "bert", task=None).bundle.manifest.task == task


def test_a_head_that_is_not_in_the_weights_is_refused(compiled: Compile) -> None:
    with pytest.raises(SourceError, match="lacks"):
        compiled("fill-mask", "bert", task="text-classification")


def test_texts_are_answered_as_transformers_does(
    compiled: Compile, heads: Path, python: Path
) -> None:
    def folder(task: str) -> str:
        return str(heads / task / "bert")

    masked = TEXT.replace("gate", "[MASK]")
    rows = [
        ["text-classification", folder("text-classification"), TEXT, {"top_k": None}],
        [
            "token-classification",
            folder("token-classification"),
            TEXT,
            {"aggregation_strategy": "first"},
        ],
        ["fill-mask", folder("fill-mask"), masked, {"top_k": 3}],
    ]
    script = ROOT / "tests" / "support" / "torch_pipelines.py"
    done = subprocess.run(
        [python, script], input=json.dumps(rows), capture_output=True, check=True, text=True
    )
    classes, tags, fillings = json.loads(done.stdout)
    with load(compiled("text-classification", "bert").bundle, threads=1) as session:
        (found,) = session.classify([TEXT])
    assert [one.label for one in found] == [one["label"] for one in classes]
    assert [one.score for one in found] == pytest.approx(
        [one["score"] for one in classes], abs=1e-4
    )
    with load(compiled("token-classification", "bert").bundle, threads=1) as session:
        (spans,) = session.tag([TEXT])
    assert [(s.label, s.start, s.end) for s in spans] == [
        (one["entity_group"], one["start"], one["end"]) for one in tags
    ]
    with load(compiled("fill-mask", "bert").bundle, threads=1) as session:
        filled = session.fill(masked, top_k=3)
    assert [one.token for one in filled] == [one["token_str"] for one in fillings]
    assert [one.score for one in filled] == pytest.approx(
        [one["score"] for one in fillings], abs=1e-4
    )


@pytest.mark.parametrize(
    ("task", "model_type", "shapes", "proved"),
    [
        ("fill-mask", "deberta-v2", "sequence=8|24", [[1, 24], [1, 8]]),
        ("image-classification", "vit", "batch=2", [[2, 3, 64, 64]]),
        ("ctc", "wav2vec2", "samples=6000|9001", [[1, 9001], [1, 6000]]),
        ("zero-shot-image-classification", "clip", "texts=2,sequence=12", [[2, 12]]),
    ],
)
def test_it_agrees_in_fixed_shapes_too(
    compiled: Compile, task: str, model_type: str, shapes: str, proved: list[list[int]]
) -> None:
    bundle = compiled(task, model_type, shapes=shapes).bundle
    proof = bundle.manifest.proof
    assert not proof.degraded
    assert proof.figures["untraced_relative_difference"] < FLOAT32_DIFFERENCE
    bound = ALMOST_EQUAL.get(model_type, FLOAT32_DIFFERENCE)
    assert proof.figures["relative_difference"] < bound
    assert proof.untraced_shapes == proved
    assert run_golden(bundle, threads=1).passed
