"""Compiling for TensorRT: who gets such a graph, what the recipe says, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fresh_cache import fresh_cache
from proved_job import PROOF_TEXTS, RecordedStages, job, proved
from real_model import minilm
from simulated_device import simulated_device

from edgeward.compiler.compile import CompileRequest, plan_bundles
from edgeward.compiler.formats import onnx
from edgeward.compiler.formats.base import Artifact, Job
from edgeward.compiler.package import package
from edgeward.compiler.shapes import FixedShapes
from edgeward.errors import UnsupportedError, UsageError
from edgeward.fleet.control.releases import variant_of
from edgeward.runtimes.finalize.hardware import find_gpu
from edgeward.runtimes.finalize.wants import wants_of

NANO = "jetson-orin-nano"


def built(folder: Path, made: Job, *problems: str) -> tuple[Artifact, RecordedStages]:
    stages = RecordedStages(folder, problems)
    return onnx.build(made, stages), stages


@pytest.mark.parametrize(
    ("target", "precision", "wanted"),
    [
        (NANO, "fp16", True),
        (NANO, "int8-static", True),
        (NANO, "fp32", False),
        (NANO, "int8-dynamic", False),
        ("kiosk-x86", "fp16", False),
    ],
)
def test_the_target_says_which_precisions_are_built(
    tmp_path: Path, target: str, precision: str, wanted: bool
) -> None:
    artifact, stages = built(tmp_path, job(target, precision))
    assert (stages.specs[-1].name == "typed") is wanted
    assert artifact.model.path.parent.name.endswith(stages.specs[-1].name)
    assert (artifact.options.get("engine") == "tensorrt") is wanted
    if wanted:
        assert artifact.options["ranges"] == "sequence=1:128:1024,batch=1:1:32"


def test_static_int8_is_symmetric_and_unfused_for_tensorrt(tmp_path: Path) -> None:
    specs = {s.name: s.params for s in built(tmp_path, job(NANO, "int8-static"))[1].specs}
    assert specs["optimise"] == {"rows": False, "sums": False, "fuse": False}
    assert specs["quantise"] == {"symmetric": True, "tables": False}
    asked = replace(job(NANO, "int8-static"), engine="onnxruntime")
    specs = {s.name: s.params for s in built(tmp_path / "ort", asked)[1].specs}
    assert specs["quantise"] == {}
    assert "typed" not in specs


def test_asked_for_by_name_any_typed_precision_is_made(tmp_path: Path) -> None:
    asked = replace(job(NANO, "fp32"), engine="tensorrt", ranges=("sequence=2:4:8",))
    options = built(tmp_path, asked)[0].options
    assert options["engine"] == "tensorrt"
    assert "sequence=2:4:8" in str(options["ranges"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "int8-dynamic"}, "not built of int8-dynamic"),
        ({"task": "text-generation"}, "token by token"),
        ({"ranges": ("width=1:2:3",)}, "no axis width"),
        ({"shapes": FixedShapes((("batch", (1,)), ("sequence", (64,))))}, "ranges of shapes"),
    ],
)
def test_what_tensorrt_cannot_be_built_of_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    made = replace(job(NANO, changes.pop("precision", "fp16")), engine="tensorrt")
    if task := changes.pop("task", None):
        made = replace(made, source=replace(made.source, task=task))
    with pytest.raises(UnsupportedError, match=words):
        built(tmp_path, replace(made, **changes))


def test_fixed_shapes_are_the_formats_own_engines(tmp_path: Path) -> None:
    fixed = FixedShapes((("batch", (1,)), ("sequence", (64,))))
    artifact, stages = built(tmp_path, replace(job(NANO, "fp16"), shapes=fixed))
    assert "engine" not in artifact.options
    assert "typed" not in {spec.name for spec in stages.specs}


def test_a_graph_that_is_not_taken_is_refused_or_told(tmp_path: Path) -> None:
    problems = ("NonMax nms: odd", "Odd other: odd")
    with pytest.raises(UnsupportedError) as caught:
        built(tmp_path / "asked", replace(job(NANO, "fp16"), engine="tensorrt"), *problems)
    assert caught.value.why == "NonMax nms: odd (and 1 more)"
    shown = proved(tmp_path / "own", job(NANO, "fp16"), problems)
    bundle, _ = package(shown, "tiny", PROOF_TEXTS, tmp_path / "bundle")
    assert "engine" not in bundle.manifest.recipe.options
    assert any("NonMax nms: odd" in line for line in bundle.manifest.proof.pending_on_target)
    assert variant_of(bundle.manifest, bundle.digest).engine == "onnxruntime"


def test_the_bundle_says_what_is_pending_and_what_is_to_be_built(tmp_path: Path) -> None:
    bundle, _ = package(
        proved(tmp_path, job(NANO, "fp16")), "tiny", PROOF_TEXTS, tmp_path / "bundle"
    )
    pending = bundle.manifest.proof.pending_on_target
    assert any("edgeward finalize" in line for line in pending)
    wants = wants_of(bundle)
    assert [(each.name, each.most) for each in wants.shapes] == [
        ("input_ids", (32, 1024)),
        ("attention_mask", (32, 1024)),
    ]
    assert variant_of(bundle.manifest, bundle.digest).engine == "tensorrt"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"engine": "tensorrt", "targets": ("kiosk-x86",)}, UnsupportedError),
        ({"ranges": ("sequence=9:8:7",)}, UsageError),
        ({"ranges": ("sequence",)}, UsageError),
    ],
)
def test_a_request_is_checked_before_any_work(
    tmp_path: Path, settings: dict[str, Any], error: type[Exception]
) -> None:
    asked = {
        "model": str(minilm()),
        "targets": (NANO,),
        "output": tmp_path,
        "precisions": ("fp16",),
    }
    with pytest.raises(error):
        plan_bundles(CompileRequest(**{**asked, **settings}))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(find_gpu() is not None, reason="this machine's own GPU would answer")
def test_a_real_model_is_compiled_finalized_and_served(tmp_path: Path) -> None:
    device = simulated_device(tmp_path, trtexec=False, python=True)
    environment = {**device, "EDGEWARD_CACHE": str(fresh_cache(tmp_path / "cache"))}
    # What is compiled may have been before: the device's part is what is tried.
    plain = {k: v for k, v in device.items() if k != "PYTHONPATH"}
    base = [sys.executable, "-m", "edgeward"]
    ask = ["compile", str(minilm()), "-t", NANO, "-p", "fp16,int8-static", "-o", str(tmp_path)]
    done = subprocess.run([*base, *ask], env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = sorted(tmp_path.glob("*-jetson-orin-nano-*"))
    ask = ["finalize", *map(str, made), "-o", "json"]
    done = subprocess.run(
        [*base, *ask], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [row["verified"] for row in json.loads(done.stdout)] == ["engine", "engine"]
    assert os.environ.get("EDGEWARD_ENGINES") is None
