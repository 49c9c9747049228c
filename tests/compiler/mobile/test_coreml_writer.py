"""A tiny random Whisper as Core ML packages: states, a cache given back, what a Mac runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from fresh_cache import fresh_cache

from edgeward.compiler.compile import Compiled, CompileRequest, compile_model, stage_runner
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.runtimes.bundle.read import open_bundle
from edgeward.runtimes.bundle.summary import summary

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
SUPPORT = ROOT / "tests" / "support"
Compile = Callable[..., Compiled]


@pytest.fixture(scope="module")
def python() -> Path:
    return Toolchains().ensure("coreml", NullReporter()).python


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageRunner]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path_factory.mktemp("c") / "cache")))
        request = CompileRequest("", (), tmp_path_factory.getbasetemp())
        with stage_runner(request, NullReporter()) as stages:
            yield stages


@pytest.fixture(scope="module")
def compiled(
    runner: StageRunner, python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Compile:
    folder = tmp_path_factory.mktemp("writers")
    subprocess.run(
        [python, SUPPORT / "make_writers.py", folder, "whisper"], check=True, capture_output=True
    )

    def run(precision: str, ios: str) -> Compiled:
        request = CompileRequest(
            model=str(folder / "whisper"), targets=("iphone-15-pro",), output=folder / ios,
            precisions=(precision,), format="coreml", options={"minimum-ios": (ios,)},
        )  # fmt: skip
        (one,) = compile_model(request, runner=runner)
        return one

    return run


@pytest.fixture(scope="module")
def bundles(compiled: Compile) -> dict[str, Compiled]:
    return {"18": compiled("fp16", "18"), "17": compiled("int8-weights", "17")}


def inside(python: Path, folder: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run where the evaluator is, with this project's entry points."""
    beside = folder / "entry_points" / "edgeward-0.dist-info"
    beside.mkdir(parents=True, exist_ok=True)
    told = distribution("edgeward").read_text("entry_points.txt") or ""
    (beside / "entry_points.txt").write_text(told)
    (beside / "METADATA").write_text("Metadata-Version: 2.1\nName: edgeward\nVersion: 0\n")
    paths = (ROOT / "src", SUPPORT, beside.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [python, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    ("ios", "divergence", "difference"), [("18", 1e-5, 0.01), ("17", 1e-3, 0.1)]
)
def test_it_writes_what_the_original_does(
    bundles: dict[str, Compiled], ios: str, divergence: float, difference: float
) -> None:
    manifest = bundles[ios].bundle.manifest
    figures = manifest.proof.figures
    assert figures["graph_kl_mean"] < 1e-5
    assert figures["eval_kl_mean"] < divergence
    assert figures["eval_top1_agreement"] > 0.99
    assert figures["untraced_relative_difference"] < difference
    assert manifest.proof.verified == "reference-evaluator"
    assert manifest.parts == {"encoder": "encoder.mlpackage/Manifest.json"}
    assert {port.name for port in manifest.inputs} == {"input_ids", "position"}
    open_bundle(bundles[ios].bundle.path, check="digests")
    told = json.dumps(summary(bundles[ios].bundle))
    assert "gather may run on the CPU" in told
    assert "verify_on_device.py" in told


def test_rounded_weights_are_half_as_large(bundles: dict[str, Compiled]) -> None:
    sizes = {ios: one.bundle.manifest.recipe.options["size_bytes"] for ios, one in bundles.items()}
    assert int(sizes["17"]) < 0.75 * int(sizes["18"])


def test_a_precision_that_is_calibrated_has_it_hear_and_write(compiled: Compile) -> None:
    manifest = compiled("w8a8", "18").bundle.manifest
    assert manifest.recipe.calibration_sha256 is not None
    assert manifest.proof.figures["eval_kl_mean"] < 1e-2
    assert manifest.proof.figures["eval_top1_agreement"] > 0.99


@pytest.mark.parametrize("ios", ["18", "17"])
def test_its_bundle_verifies_and_the_device_script_runs_every_call_of_it(
    bundles: dict[str, Compiled], python: Path, tmp_path: Path, ios: str
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(bundles[ios].bundle.path, bundle)
    verified = inside(python, tmp_path, "-m", "edgeward", "verify", bundle, "--threads", "1")
    assert verified.returncode == 0, verified.stderr
    script = SUPPORT / "on_device_by_evaluator.py"
    done = inside(python, tmp_path, script, bundle)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # Four outputs of the encoder, three calls of the decoder.
    assert found["figures"]["device_outputs"] == 7
    assert found["figures"]["device_relative_difference"] < 1e-3
    spoiled = inside(python, tmp_path, script, bundle, "--deaf")
    assert spoiled.returncode == 3, spoiled.stderr
