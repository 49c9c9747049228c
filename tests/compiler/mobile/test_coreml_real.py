"""Tiny random models as Core ML packages: precisions, sizes, states, chunks, by the evaluator."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import ROOT
from fresh_cache import fresh_cache
from tiny_heads import tiny_heads

from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import UnsupportedError
from edgeward.runtimes.bundle.read import open_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
Compile = Callable[..., Compiled]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def python() -> Path:
    return Toolchains().ensure("coreml", NullReporter()).python


@pytest.fixture(scope="module")
def models(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`heads/TASK/bert` and `decoders/llama`."""
    folder = tmp_path_factory.mktemp("models")
    support = ROOT / "tests" / "support"
    subprocess.run(
        [python, support / "make_decoders.py", folder / "decoders", "llama"],
        check=True,
        capture_output=True,
    )
    (folder / "heads").symlink_to(tiny_heads())
    return folder


@pytest.fixture(scope="module")
def runner(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageRunner]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        with stage_runner(CompileRequest("", (), models), NullReporter()) as stages:
            yield stages


@pytest.fixture
def compiled(runner: StageRunner, models: Path, tmp_path: Path) -> Compile:
    def run(model: str, precision: str = "fp16", **more: Any) -> Compiled:
        request = CompileRequest(
            model=str(models / model),
            targets=("iphone-15-pro",),
            output=tmp_path / "build",
            precisions=(precision,),
            format="coreml",
            accept_degraded=True,
            **more,
        )
        (one,) = compile_model(request, runner=runner)
        return one

    return run


CLASSIFIER = "heads/text-classification/bert"
DEEPER = "heads/fill-mask/bert"


def figures(one: Compiled) -> dict[str, float]:
    return one.bundle.manifest.proof.figures


def size_of(one: Compiled) -> int:
    return int(one.bundle.manifest.recipe.options["size_bytes"])


def test_rounding_is_what_it_says(python: Path) -> None:
    done = subprocess.run(
        [python, HERE / "coreml_rounding_check.py"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["int8_within_half_a_step"] < 0.51
    assert found["int8_is_its_product"] < 1e-5
    assert found["blocks_within_half_a_step_of_their_range"] < 0.55
    assert found["few_values_are_exact"] == 0
    assert (
        0.99 < found["long_tailed_over_best"] < 2
    )  # 160 where it begins with evenly filled values
    assert (found["table_bits"], found["table_groups"]) == (15, 4)
    assert found["grid_compensated"] < 0.6 * found["grid_nearest"]
    assert found["table_compensated"] < 0.6 * found["table_nearest"]
    assert found["zero_row"] == 0
    assert found["idle_inputs"] < 2 * found["grid_nearest"]


def test_float_packages_agree_and_say_what_was_shown(compiled: Compile) -> None:
    half = compiled(CLASSIFIER)
    manifest = half.bundle.manifest
    assert figures(half)["eval_cosine_min"] > 0.9999
    assert figures(half)["graph_cosine_min"] > 0.99999
    assert manifest.proof.verified == "reference-evaluator"
    assert any("verify_on_device.py" in one for one in manifest.proof.pending_on_target)
    assert manifest.entry == "model.mlpackage/Manifest.json"
    names = {file.path for file in manifest.files}
    assert {"verify_on_device.py", "Verify.swift", "on_device.npz", "neural_engine.json"} <= names
    assert "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin" in names
    open_bundle(half.bundle.path, check="digests")
    exact = compiled(CLASSIFIER, "fp32")
    assert figures(exact)["relative_difference"] < 1e-4
    assert exact.bundle.manifest.size > manifest.size
    advice = json.loads((exact.bundle.path / "neural_engine.json").read_text())
    assert {"float32", "gather"} <= {one["kind"] for one in advice}
    assert "float32" not in (half.bundle.path / "neural_engine.json").read_text()


@pytest.mark.parametrize(
    ("precision", "least"),
    [
        ("int8-weights", 0.999),
        ("w8a8", 0.98),
        ("palette6", 0.99),
        ("palette4", 0.95),
        ("int4-weights", 0.95),
        ("int4-channels", 0.9),
        ("mixed", 0.95),
    ],
)
def test_rounded_packages_agree_and_are_smaller(
    compiled: Compile, precision: str, least: float
) -> None:
    one, half = compiled(CLASSIFIER, precision), compiled(CLASSIFIER)
    assert figures(one)["eval_cosine_mean"] > least
    assert figures(one)["graph_cosine_min"] > 0.99999
    assert size_of(one) < size_of(half)
    layers = one.bundle.manifest.recipe.layers
    assert ({layer.bits for layer in layers} == {4, 8}) == (precision == "mixed")


def test_several_sizes_are_functions_of_one_package_or_packages_before_ios_18(
    compiled: Compile,
) -> None:
    shapes = "batch=1,sequence=16|64"
    for ios, places in (("18", 1), ("17", 2)):
        one = compiled(CLASSIFIER, "int8-weights", shapes=shapes, options={"minimum-ios": (ios,)})
        buckets = one.bundle.manifest.buckets
        assert [bucket.sizes["sequence"] for bucket in buckets] == [64, 16]
        assert len({bucket.path for bucket in buckets}) == places
        assert figures(one)["eval_cosine_mean"] > 0.999


def test_a_package_above_the_chunk_size_is_split_and_computes_the_same(compiled: Compile) -> None:
    whole = compiled(DEEPER)
    size = size_of(whole)
    split = compiled(DEEPER, options={"chunk-size": (str(int(size * 0.7)),)})
    assert split.bundle.manifest.recipe.options["chunks"] >= 2
    assert split.bundle.manifest.parts["chunk2"] == "chunk2.mlpackage/Manifest.json"
    assert figures(split)["eval_cosine_min"] > 0.9999


def test_one_that_is_mostly_a_single_weight_is_refused_in_words(compiled: Compile) -> None:
    """The cut falls behind the look-up, whose indices are of a type that iOS 16 has not."""
    size = size_of(compiled(CLASSIFIER))
    with pytest.raises(UnsupportedError, match="cannot be split into chunks"):
        compiled(CLASSIFIER, options={"chunk-size": (str(int(size * 0.7)),)})


def test_a_generator_writes_with_states_what_the_original_does(compiled: Compile) -> None:
    one = compiled("decoders/llama")
    found = figures(one)
    assert found["graph_kl_mean"] < 1e-5
    assert found["eval_kl_mean"] < 1e-3
    assert found["eval_greedy_agreement"] > 0.98
    with np.load(one.bundle.path / "on_device.npz") as held:
        functions = {name.split("/")[2] for name in held.files}
    assert functions == {"main", "prefill"}
