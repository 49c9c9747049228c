"""A real model through the real command: bundles, their proof, and a proof that fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compile_desk import Desk
from documents import ROOT
from numpy.typing import NDArray
from real_model import minilm

from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.runtimes import load
from edgeward.runtimes.bundle.read import open_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
OPSET_OF_JETPACK_6 = 23
LONG = "The museum closes at six, and the last tour leaves an hour before that. " * 30
TEXTS = [
    "Where is gate B12?",
    "x",
    "The lift is out of order.",
    "東京はどこですか",
    LONG,
    "a b c d e f g",
    "",
]
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Rows]]:
    """Two targets, two precisions, from an empty stage cache."""
    desk = Desk(tmp_path_factory.mktemp("both"))
    done = desk.run("-t", "jetson-orin-nano", "--report", "json", precisions="fp32,int8-dynamic")
    assert done.returncode == 0, done.stderr
    yield desk, json.loads(done.stdout)


@pytest.fixture(scope="module")
def original() -> NDArray[np.float32]:
    """The vectors of TEXTS by torch, with no line of ours in between."""
    python = Toolchains().ensure("onnx", NullReporter()).python
    script = ROOT / "tests" / "support" / "torch_sentences.py"
    done = subprocess.run(
        [python, script, minilm()],
        input=json.dumps(TEXTS),
        capture_output=True,
        check=True,
        text=True,
    )
    return np.array(json.loads(done.stdout), np.float32)


def verify(path: str | Path) -> int:
    command = [sys.executable, "-m", "edgeward", "verify", str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode


def test_each_target_has_its_proved_bundles(both: tuple[Desk, Rows]) -> None:
    _, rows = both
    assert [(row["target"], row["precision"]) for row in rows] == [
        ("kiosk-x86", "fp32"),
        ("kiosk-x86", "int8-dynamic"),
        ("jetson-orin-nano", "fp32"),
        ("jetson-orin-nano", "int8-dynamic"),
    ]
    for row in rows:
        manifest = open_bundle(row["path"]).manifest
        proof = manifest.proof
        assert (proof.verified, proof.degraded, proof.failures) == ("engine", False, [])
        assert {check.metric for check in proof.checks} >= {
            "cosine_min",
            "eval_cosine_min",
            "token_ids_equal",
        }
        assert proof.evaluation_sha256
        assert manifest.source.weights_sha256
        assert set(manifest.tools) >= {"torch", "transformers", "onnx", "onnxruntime"}
        assert manifest.performance.measured["latency_p50_ms"] > 0
        assert all(stage.seconds > 0 for stage in manifest.stages)
        assert row["cosine"] > (0.99999 if row["precision"] == "fp32" else 0.98)
        assert b"site-packages" not in open_bundle(row["path"]).entry.read_bytes()
    assert rows[1]["mib"] < rows[0]["mib"] / 3


def test_shapes_that_were_not_traced_are_proved(both: tuple[Desk, Rows]) -> None:
    proof = open_bundle(both[1][0]["path"]).manifest.proof
    batches, lengths = zip(*proof.untraced_shapes, strict=True)
    assert 1 in batches
    assert max(batches) > 2
    assert 1 in lengths
    assert max(lengths) >= 256
    difference = next(c for c in proof.checks if c.metric == "untraced_relative_difference")
    assert 0 < difference.value < difference.bound


def test_the_jetsons_bundle_ran_in_the_jetsons_engine(both: tuple[Desk, Rows]) -> None:
    for row in both[1][2:]:
        bundle = open_bundle(row["path"])
        engine = bundle.manifest.proof.engine
        assert engine is not None
        assert engine.version == "1.23.2"
        assert bundle.manifest.proof.pending_on_target
        opsets = {o.domain: o.version for o in onnx.load(bundle.entry).opset_import}
        assert opsets[""] <= OPSET_OF_JETPACK_6
    engine = open_bundle(both[1][0]["path"]).manifest.proof.engine
    assert engine is not None
    assert engine.version != "1.23.2"


def test_the_jetsons_engine_loads_it_bare(both: tuple[Desk, Rows]) -> None:
    python = Toolchains().ensure("onnxruntime-1.23", NullReporter()).python
    code = (
        "import sys, onnxruntime as o; assert o.__version__ == '1.23.2'\n"
        "for p in sys.argv[1:]: print(*(i.name for i in o.InferenceSession(p).get_inputs()))"
    )
    models = [str(open_bundle(row["path"]).entry) for row in both[1][2:]]
    done = subprocess.run([python, "-c", code, *models], check=True, capture_output=True, text=True)
    wanted = {"input_ids", "attention_mask", "token_type_ids"}
    assert [set(line.split()) for line in done.stdout.splitlines()] == [wanted, wanted]


def test_a_bundle_embeds_as_torch_does(
    both: tuple[Desk, Rows], original: NDArray[np.float32]
) -> None:
    _, rows = both
    for row in rows:
        with load(row["path"]) as session:
            alone = np.concatenate([session.embed([text]) for text in TEXTS])
            together = session.embed(TEXTS)
        cosines = np.stack([(alone * original).sum(axis=1), (together * original).sum(axis=1)])
        assert cosines.min() > (0.99999 if row["precision"] == "fp32" else 0.94)
        assert (row["precision"] == "fp32") == np.allclose(alone, original, atol=1e-4)


def test_verify_proves_it_again(both: tuple[Desk, Rows]) -> None:
    assert [verify(row["path"]) for row in both[1]] == [0, 0, 0, 0]


def test_a_second_run_does_nothing_again(both: tuple[Desk, Rows]) -> None:
    desk, rows = both
    before = desk.finished()
    again = desk.run("-t", "jetson-orin-nano", "--report", "json", precisions="fp32,int8-dynamic")
    assert json.loads(again.stdout) == rows
    assert desk.finished() == before
    assert "(cached)" in again.stderr


def test_two_precisions_and_two_engines_share_export_and_reference(
    both: tuple[Desk, Rows],
) -> None:
    ran = sorted(record["name"] for record in both[0].records())
    shared, each = ["export", "quantise", "reference"], ["verify", "benchmark"] * 4
    # The Jetson's fp32 runs on CUDA, where attention is not fused: a graph of its own.
    assert ran == sorted([*shared, *["optimise"] * 2, *each])


@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_perturbed_weights_fall_short_and_are_not_packaged(
    both: tuple[Desk, Rows], tmp_path: Path, precision: str
) -> None:
    desk = both[0].twin(tmp_path / "desk")
    perturb(desk, noise=0.02 if precision == "fp32" else 0.5)
    fallen = desk.run(precisions=precision)
    assert fallen.returncode == 3, fallen.stderr
    assert fallen.stdout == ""
    assert "cosine_m" in fallen.stderr
    assert "--accept-degraded" in fallen.stderr
    assert desk.made() == []
    taken = desk.run("--accept-degraded", precisions=precision)
    assert taken.returncode == 0, taken.stderr
    assert "degraded" in taken.stdout
    (name,) = desk.made()
    proof = open_bundle(desk.build / name).manifest.proof
    assert proof.degraded
    assert proof.failures
    assert verify(desk.build / name) == 3


def perturb(desk: Desk, noise: float) -> None:
    """Add noise to the exported weights, and forget what was made of them."""
    generator = np.random.default_rng(0)
    for record in desk.records():
        path = record["path"].parent / "out" / "model.onnx"
        if record["name"] == "optimise":
            model = onnx.load(path)
            for tensor in model.graph.initializer:
                values = onnx.numpy_helper.to_array(tensor)
                if values.ndim == 2 and values.dtype == np.float32:
                    spread = noise * values.std()
                    changed = values + spread * generator.standard_normal(values.shape)
                    changed = changed.astype(np.float32)
                    tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))
            onnx.save(model, path)
        elif record["name"] in ("quantise", "verify"):
            record["path"].unlink()


def test_rounded_weights_are_small_and_near(both: tuple[Desk, Rows], tmp_path: Path) -> None:
    done = (
        both[0]
        .twin(tmp_path / "desk")
        .run(
            "-t",
            "jetson-orin-nano",
            "--report",
            "json",
            precisions="fp16,int8-static,int8-weights,int4-weights",
        )
    )
    assert done.returncode == 0, done.stderr
    half, static, eight, four, *jetson = json.loads(done.stdout)
    assert static["cosine"] > 0.997
    assert static["mib"] < 24
    assert open_bundle(static["path"]).manifest.recipe.calibration_sha256
    assert half["cosine"] > 0.99999
    assert half["mib"] < 46
    assert eight["cosine"] > 0.999
    assert four["cosine"] > 0.965
    assert (eight["mib"] < 27, four["mib"] < 16) == (True, True)
    for row in jetson:
        manifest = open_bundle(row["path"]).manifest
        assert manifest.proof.engine is not None
        assert manifest.proof.engine.version == "1.23.2"
        assert manifest.recipe.options["portable"] is (row["precision"] in ("fp16", "int8-static"))


def test_fixed_shapes_embed_as_the_dynamic_bundle_does(
    both: tuple[Desk, Rows], tmp_path: Path
) -> None:
    dynamic = open_bundle(both[1][0]["path"])
    done = both[0].twin(tmp_path / "desk").run("--shapes", "batch=1,sequence=64|256")
    assert done.returncode == 0, done.stderr
    bundle = open_bundle(tmp_path / "desk" / "build" / dynamic.path.name)
    manifest = bundle.manifest
    assert manifest.recipe.options["shapes"] == "batch=1,sequence=64|256"
    assert manifest.proof.untraced_shapes == [[1, 256], [1, 64]]
    assert [bucket.sizes["sequence"] for bucket in manifest.buckets] == [256, 64]
    assert manifest.buckets[0].path == manifest.entry == "onnx/model.onnx"
    assert manifest.size < dynamic.manifest.size + (1 << 20)
    for bucket in manifest.buckets:
        path = bundle.path / bucket.path
        graph = onnx.load(path, load_external_data=False).graph
        for value in [*graph.input, *graph.output, *graph.value_info]:
            assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim), value.name
        onnx.checker.check_model(str(path), full_check=True)
    texts = [" ".join(["gate"] * words) for words in (3, 58, 98)]
    with load(dynamic, threads=1) as wanted, load(bundle, threads=1) as fixed:
        assert [fixed.embed_counted([text]).tokens for text in texts] == [5, 60, 100]
        for batch in (*([text] for text in texts), texts, [LONG]):
            np.testing.assert_allclose(fixed.embed(batch), wanted.embed(batch), atol=1e-5)
    assert verify(bundle.path) == 0
