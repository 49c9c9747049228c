"""`--precision auto`: which artifact is taken, and what is said of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_folder import write_model
from proved_job import PERFECT, PROOF_TEXTS, RecordedStages, job

from edgeward.compiler.compile import CompileRequest, plan_bundles
from edgeward.compiler.package import Proved, package
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.recipe import recipe_for
from edgeward.compiler.rows import planned_row
from edgeward.compiler.search import search
from edgeward.compiler.shapes import FixedShapes
from edgeward.compiler.stages import StageResult, StageSpec
from edgeward.errors import UnsupportedError
from edgeward.runtimes.bundle.manifest import Tried

FASTER = {"fp32": 1.0, "int8-dynamic": 0.4}


class Notes(NullReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


class ScriptedStages(RecordedStages):
    """Stages that leave these figures: verify by precision, the race as given."""

    def __init__(
        self,
        folder: Path,
        ratios: Mapping[str, float],
        falls_short: frozenset[str] = frozenset(),
        unsupported: bool = False,
    ) -> None:
        super().__init__(folder)
        self._ratios, self._falls_short, self._unsupported = ratios, falls_short, unsupported

    def run(self, spec: StageSpec) -> StageResult:
        if spec.name == "export":
            self._precision = "fp32"
        if spec.name == "quantise":
            mixed = spec.call.endswith("mix_dynamic")
            self._precision = "int8-mixed" if mixed else "int8-dynamic"
            if self._unsupported:
                raise UnsupportedError("nothing to quantise")
        result = super().run(spec)
        data: dict[str, Any] = dict(result.data)
        if spec.name == "verify":
            precision = self._precision
            short = precision in self._falls_short
            data["metrics"] = {**PERFECT, **({"cosine_min": 0.1} if short else {})}
            data["engine"] = {"name": "onnxruntime", "version": "1.32.0"}
        if spec.name == "benchmark":
            data |= {"measured": {"latency_p50_ms": 2.0}, "machine": {}}
        if spec.name == "race":
            asked = spec.params["precisions"]
            assert isinstance(asked, list)
            data["ratios"] = {str(name): self._ratios[str(name)] for name in asked}
        return StageResult(
            result.key, result.path, data, {}, result.seconds, 7, cached=False, versions={}
        )


def run(
    folder: Path,
    ratios: Mapping[str, float],
    tried: Sequence[str] = ("fp32", "int8-dynamic"),
    **how: Any,
) -> tuple[Proved, list[Tried], Notes]:
    notes = Notes()
    jobs = [job(precision=name) for name in tried]
    chosen, trail = search(jobs, PROOF_TEXTS, ScriptedStages(folder, ratios, **how), notes)
    return chosen, trail, notes


def test_the_fastest_that_passes_is_taken(tmp_path: Path) -> None:
    chosen, trail, notes = run(tmp_path, FASTER)
    assert chosen.job.recipe.precision == "int8-dynamic"
    assert [(one.precision, one.passed, one.time_ratio) for one in trail] == [
        ("fp32", True, 1.0),
        ("int8-dynamic", True, 0.4),
    ]
    assert any("0.40 times" in line for line in notes.said)


class Packages(RecordedStages):
    """Stages of Core ML, whose package of a precision has so many bytes."""

    def __init__(self, folder: Path, sizes: Mapping[str, int]) -> None:
        super().__init__(folder)
        self._sizes = sizes

    def run(self, spec: StageSpec) -> StageResult:
        result = super().run(spec)
        precision = str(spec.params.get("precision", "fp32"))
        if spec.name in ("convert", "compress"):
            weights = result.path / "model.mlpackage" / "Data" / "weight.bin"
            weights.parent.mkdir(parents=True)
            weights.write_bytes(bytes(self._sizes[precision]))
        data = {
            **result.data,
            "packages": {"main": "model.mlpackage"},
            "size_bytes": self._sizes[precision],
            "metrics": PERFECT,
        }
        return replace(result, data=data)


def test_where_the_engine_does_not_run_the_smallest_is_taken(tmp_path: Path) -> None:
    made = job(target="iphone-16-pro")
    names = {"fp32": 4000, "int8-weights": 1000, "palette6": 1500}
    shapes = FixedShapes((("batch", (1,)), ("sequence", (16,))))
    jobs = [replace(made, shapes=shapes, recipe=recipe_for("coreml", name)) for name in names]
    stages = Packages(tmp_path, names)
    chosen, trail = search(jobs, PROOF_TEXTS, stages, NullReporter())
    assert chosen.job.recipe.precision == "int8-weights"
    assert [one.time_ratio for one in trail] == [None] * 3
    assert "0.25 times fp32's size" in trail[1].reason
    assert chosen.measured == {}
    assert not {"race", "benchmark"} & {spec.name for spec in stages.specs}


def test_a_slower_one_is_said_out_loud_and_not_taken(tmp_path: Path) -> None:
    chosen, _, notes = run(tmp_path, {"fp32": 1.0, "int8-dynamic": 1.3})
    assert chosen.job.recipe.precision == "fp32"
    assert any("int8-dynamic" in line and "slower" in line for line in notes.said)


def test_one_that_falls_short_is_not_even_raced(tmp_path: Path) -> None:
    chosen, trail, _ = run(tmp_path, FASTER, falls_short=frozenset({"int8-dynamic"}))
    assert chosen.job.recipe.precision == "fp32"
    short = next(one for one in trail if one.precision == "int8-dynamic")
    assert not short.passed
    assert "cosine_min 0.1 is below" in short.reason


MIXED = {**FASTER, "int8-mixed": 0.6}


def test_a_mixed_one_is_tried_where_the_plain_one_falls_short(tmp_path: Path) -> None:
    chosen, trail, _ = run(
        tmp_path, MIXED, tried=tuple(MIXED), falls_short=frozenset({"int8-dynamic"})
    )
    assert chosen.job.recipe.precision == "int8-mixed"
    assert [one.precision for one in trail if one.passed] == ["fp32", "int8-mixed"]


def test_without_the_exact_one_the_first_need_not_pass(tmp_path: Path) -> None:
    short = frozenset({"int8-dynamic"})
    chosen, _, _ = run(tmp_path, MIXED, tried=("int8-dynamic", "int8-mixed"), falls_short=short)
    assert (chosen.job.recipe.precision, chosen.failures) == ("int8-mixed", [])


def test_where_none_can_be_made_it_is_said_why(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="nothing to quantise"):
        run(tmp_path, FASTER, tried=("int8-dynamic",), unsupported=True)


def test_a_mixed_one_is_not_tried_where_the_plain_one_passes(tmp_path: Path) -> None:
    chosen, trail, _ = run(tmp_path, MIXED, tried=tuple(MIXED))
    assert chosen.job.recipe.precision == "int8-dynamic"
    (left,) = (one for one in trail if not one.passed)
    assert (left.precision, left.reason) == ("int8-mixed", "not tried: int8-dynamic passes")


def test_one_that_cannot_be_made_is_passed_over(tmp_path: Path) -> None:
    chosen, trail, _ = run(tmp_path, FASTER, unsupported=True)
    assert chosen.job.recipe.precision == "fp32"
    assert any("nothing to quantise" in one.reason for one in trail)


def test_where_the_exact_one_falls_short_nothing_else_is_trusted(tmp_path: Path) -> None:
    chosen, _, _ = run(tmp_path, FASTER, falls_short=frozenset({"fp32"}))
    assert chosen.job.recipe.precision == "fp32"
    assert chosen.failures


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 4.0))
def test_what_is_taken_is_never_slower_than_the_exact_one(
    tmp_path_factory: pytest.TempPathFactory, ratio: float
) -> None:
    folder = tmp_path_factory.mktemp("race")
    chosen, _, _ = run(folder, {"fp32": 1.0, "int8-dynamic": ratio})
    assert chosen.job.recipe.precision == ("int8-dynamic" if ratio < 1 else "fp32")


def test_the_trail_stands_in_the_manifest(tmp_path: Path) -> None:
    chosen, trail, _ = run(tmp_path / "stages", FASTER)
    bundle, _ = package(chosen, "tiny", PROOF_TEXTS, tmp_path / "bundle", trail)
    assert bundle.manifest.search == trail
    _, again = package(chosen, "tiny", PROOF_TEXTS, tmp_path / "bundle", trail)
    assert again
    plain, kept = package(chosen, "tiny", PROOF_TEXTS, tmp_path / "bundle")
    assert (plain.manifest.search, kept) == ([], False)


def test_auto_is_one_plan_of_all_that_the_target_takes(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m")
    request = CompileRequest(
        model=str(model), targets=("kiosk-x86",), output=tmp_path / "b", precisions=("auto", "auto")
    )
    _, (plan,) = plan_bundles(request)
    assert plan.searched
    assert plan.jobs[0].recipe.precision == "fp32"
    row = planned_row("m", plan)
    assert row["precision"] == " or ".join(plan.jobs[0].profile.formats["onnx"])
