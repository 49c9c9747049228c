"""What goes into a bundle: its files, what its manifest says of the proof, when it is kept."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from pathlib import Path

import pytest
from proved_job import ASSETS, PROOF_TEXTS, RecordedStages, job, proved

from edgeward.compiler.compile import CompileRequest, refuse_failure
from edgeward.compiler.formats import onnx
from edgeward.compiler.formats.base import Job
from edgeward.compiler.held import tolerances_of
from edgeward.compiler.package import Proved, bundle_name, check_place, package
from edgeward.compiler.shapes import FixedShapes
from edgeward.errors import ProofError, UsageError
from edgeward.runtimes.bundle.read import Bundle, open_bundle

GOLDEN = {"golden/cases.json", "golden/reference.safetensors"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "build" / "one"


def packaged(place: Path, made: Job, **metrics: float) -> tuple[Bundle, bool]:
    done = proved(place.parent.parent / f"stages-{len(metrics)}", made, **metrics)
    return package(done, "tiny", PROOF_TEXTS, place)


def test_the_models_own_files_travel_as_they_are(place: Path) -> None:
    bundle, there = packaged(place, job())
    listed = {entry.path for entry in bundle.manifest.files}
    assert listed - GOLDEN == {*ASSETS, "README.md", "onnx/model.onnx"}
    assert not there
    export = place.parent.parent / "stages-0" / "1-export"
    for name in ASSETS:
        assert (place / name).read_bytes() == (export / "assets" / name).read_bytes()
    assert (place / "onnx" / "model.onnx").read_bytes() == (export / "model.onnx").read_bytes()
    assert open_bundle(place).digest == bundle.digest


def test_the_golden_cases_are_the_references(place: Path) -> None:
    bundle, _ = packaged(place, job())
    golden = next((place.parent.parent / "stages-0").glob("*-reference")) / "golden"
    written = {f"golden/{path.name}": path.read_bytes() for path in golden.iterdir()}
    assert {name: (place / name).read_bytes() for name in written} == written
    assert bundle.manifest.golden is not None
    assert bundle.manifest.golden.cases == len(PROOF_TEXTS.golden)
    bounded = {check.metric for check in bundle.manifest.golden.tolerances}
    assert bounded == {bound.metric for bound in tolerances_of(job()).golden}


def test_what_a_mixed_precision_chose_stands_in_the_manifest(place: Path) -> None:
    done = proved(place.parent.parent / "stages", job(precision="int4-mixed"))
    *before, quantised = done.artifact.results
    layers = [{"name": "layer.0", "weights": 2, "bits": 8, "error": 0.25}]
    quantised = replace(quantised, data={**quantised.data, "layers": layers})
    artifact = replace(done.artifact, results=(*before, quantised))
    bundle, _ = package(replace(done, artifact=artifact), "tiny", PROOF_TEXTS, place)
    assert [one.model_dump() for one in bundle.manifest.recipe.layers] == layers


def test_a_quantised_model_has_the_ecosystems_name_and_its_own_weights(place: Path) -> None:
    bundle, _ = packaged(place, job(precision="int8-dynamic"))
    assert bundle.manifest.entry == "onnx/model_quantized.onnx"
    assert [stage.name for stage in bundle.manifest.stages][1:3] == ["optimise", "quantise"]
    assert bundle.manifest.recipe.granularity == "per-channel"


def test_weights_beside_the_graph_keep_the_name_that_it_knows(place: Path) -> None:
    done = proved(place.parent.parent / "stages", job())
    done.artifact.model.path.with_name("model.onnx.data").write_bytes(b"weights")
    package(done, "tiny", PROOF_TEXTS, place)
    assert (place / "onnx" / "model.onnx.data").read_bytes() == b"weights"


def test_graphs_of_fixed_shapes_lie_beside_each_other(place: Path) -> None:
    shapes = FixedShapes((("batch", (1,)), ("sequence", (64, 256))))
    made = replace(job(precision="int8-dynamic"), shapes=shapes)
    bundle, _ = packaged(place, made)
    manifest = bundle.manifest
    assert manifest.entry == "onnx/model_quantized.onnx"
    assert {bucket.path: bucket.sizes for bucket in manifest.buckets} == {
        "onnx/model_quantized.onnx": {"batch": 1, "sequence": 256},
        "onnx/model_batch1_sequence64_quantized.onnx": {"batch": 1, "sequence": 64},
    }
    assert (place / manifest.buckets[1].path).read_bytes() == b"batch1_sequence64"
    assert manifest.padding == {"input_ids": 3}
    assert manifest.recipe.options["shapes"] == "batch=1,sequence=64|256"
    assert [stage.name for stage in manifest.stages][1:4] == ["optimise", "quantise", "shapes"]
    assert packaged(place, made, cosine_min=1.0)[1]
    assert not packaged(place, job(precision="int8-dynamic"), cosine_min=1.0, kl_mean=0.0)[1]
    assert open_bundle(place).manifest.buckets == []


def test_fixed_shapes_have_standard_operators_alone(tmp_path: Path) -> None:
    fixed = replace(job(), shapes=FixedShapes((("batch", (1,)), ("sequence", (64,)))))
    for made, fused in ((job(), True), (fixed, False)):
        stages = RecordedStages(tmp_path / str(fused))
        onnx.build(made, stages)
        assert stages.specs[1].params["fuse"] is fused


def test_the_manifest_tells_source_target_recipe_tools_and_stages(place: Path) -> None:
    manifest = packaged(place, job())[0].manifest
    assert (manifest.source.id, manifest.source.license) == ("org/tiny", "mit")
    assert (manifest.target.name, manifest.target.digest) == ("kiosk-x86", job().profile.digest)
    assert manifest.tools["torch"] == "2.0"
    assert "leftpad" not in manifest.tools
    assert [stage.name for stage in manifest.stages] == [
        "export",
        "optimise",
        "reference",
        "verify",
        "benchmark",
    ]
    assert all(stage.seconds == 1.5 for stage in manifest.stages)
    card = (place / "README.md").read_text()
    assert "license: mit" in card
    assert "base_model: org/tiny" in card


def test_every_figure_of_the_proof_is_there(place: Path) -> None:
    proof = packaged(place, job())[0].manifest.proof
    assert proof.verified == "engine"
    assert {check.metric for check in proof.checks} | set(proof.informative) >= {
        "cosine_min",
        "eval_cosine_min",
        "eval_rank_agreement",
        "untraced_relative_difference",
    }
    assert proof.untraced_shapes == [[1, 5]]
    assert proof.evaluation_sha256 == PROOF_TEXTS.evaluation_sha256
    assert not proof.degraded


def test_what_only_the_device_can_show_is_pending(place: Path) -> None:
    here = platform.machine()
    for target in ("jetson-orin-nano", "kiosk-x86"):
        made = job(target)
        pending = packaged(place.parent / target / "b" / "c", made)[
            0
        ].manifest.proof.pending_on_target
        foreign = [words for words in pending if words.endswith(f"proved on {here}")]
        assert bool(foreign) == (made.profile.hardware.arch != here)


def test_a_bundle_of_the_same_stages_is_left_as_it_is(place: Path) -> None:
    done = proved(place.parent.parent / "stages", job())
    first, _ = package(done, "tiny", PROOF_TEXTS, place)
    before = (place / "manifest.json").stat().st_ino
    again, there = package(done, "tiny", PROOF_TEXTS, place)
    assert (again.digest, there) == (first.digest, True)
    assert (place / "manifest.json").stat().st_ino == before


def test_a_damaged_one_is_made_again(place: Path) -> None:
    done = proved(place.parent.parent / "stages", job())
    first, _ = package(done, "tiny", PROOF_TEXTS, place)
    size = (place / "config.json").stat().st_size
    (place / "config.json").write_bytes(b" " * size)
    again, there = package(done, "tiny", PROOF_TEXTS, place)
    assert (again.digest, there) == (first.digest, False)
    assert open_bundle(place).digest == first.digest


def test_another_source_takes_its_place(place: Path) -> None:
    done = proved(place.parent.parent / "stages", job())
    package(done, "tiny", PROOF_TEXTS, place)
    source = replace(done.job.source, license="apache-2.0")
    other = replace(done, job=replace(done.job, source=source))
    _, there = package(other, "tiny", PROOF_TEXTS, place)
    assert not there
    assert open_bundle(place).manifest.source.license == "apache-2.0"


def refused(done: Proved, *, accept: bool) -> None:
    target = done.job.profile.name
    request = CompileRequest("m", (target,), Path("build"), accept_degraded=accept)
    refuse_failure(done, request)


@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_a_proof_that_falls_short_is_refused_in_figures(tmp_path: Path, precision: str) -> None:
    done = proved(tmp_path, job(precision=precision), cosine_min=0.5)
    with pytest.raises(ProofError, match=r"cosine_min 0\.5 is below") as caught:
        refused(done, accept=False)
    assert caught.value.exit_code == 3
    assert "--accept-degraded" in caught.value.next
    assert ("--precision fp32" in caught.value.next) == (precision != "fp32")
    refused(done, accept=True)
    refused(proved(tmp_path / "fine", job(precision=precision)), accept=False)


def test_a_difference_that_is_too_large_is_above_its_bound(tmp_path: Path) -> None:
    done = proved(tmp_path, job(), relative_difference=0.5)
    with pytest.raises(ProofError, match=r"relative_difference 0\.5 is above 0\.01"):
        refused(done, accept=False)


def test_an_accepted_fall_is_recorded(place: Path) -> None:
    manifest = packaged(place, job(), eval_cosine_min=0.2)[0].manifest
    assert manifest.proof.degraded
    assert [check.metric for check in manifest.proof.failures] == ["eval_cosine_min"]
    assert json.loads((place / "manifest.json").read_text())["proof"]["degraded"] is True


def test_precisions_and_targets_do_not_stand_in_each_others_place() -> None:
    jobs = [
        job(target, precision)
        for target in ("kiosk-x86", "jetson-orin-nano")
        for precision in ("fp32", "int8-dynamic")
    ]
    assert len({bundle_name("tiny", made) for made in jobs}) == len(jobs)


def test_a_place_is_free_empty_or_a_bundles(place: Path) -> None:
    check_place(place)
    place.mkdir(parents=True)
    check_place(place)
    (place / "manifest.json").write_text("{}")
    check_place(place)
    (place / "manifest.json").rename(place / "else.json")
    with pytest.raises(UsageError, match="No bundle can be written"):
        check_place(place)
    with pytest.raises(UsageError, match="No bundle can be written"):
        check_place(place / "else.json")
    with pytest.raises(UsageError, match="No bundle can be written"):
        check_place(place / "else.json" / "below")
