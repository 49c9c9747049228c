"""Front ends for mobile engines on tiny models of every kind, held against Hugging Face's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from matrix import sampled
from mobile_pairs import AKIN, front_only
from tiny_heads import tiny_heads

from edgeward.compiler.architectures import MODEL_TYPES
from edgeward.compiler.child import clean_environment
from edgeward.compiler.mobile.coverage import MOBILE, REFUSED, coverage_of, front_pairs
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.tasks import TASKS
from edgeward.compiler.toolchains.manager import Toolchains

SUPPORT = ROOT / "tests" / "support"
FLOAT32_DIFFERENCE = 1e-4
# What does not depend on the inputs is worked out before, and no mask is of bool.
FOLDED = {
    f"aten.{name}" for name in ("arange.default", "cos.default", "sin.default", "alias.default")
}
MASKS = {"aten.masked_fill.Scalar", "aten.masked_fill.Tensor", "aten.bitwise_not.default"}
NORMS = {
    "rms norm",
    "rms norm of one more than its weight",
    "layer norm written out",
    "group norm",
    "response norm",
}
# These square by themselves; torch's own operators add up in float32, as an engine's need not.
OVERFLOWS = {"rms norm", "rms norm of one more than its weight", "layer norm written out"}


def test_every_graph_of_fixed_shapes_is_covered() -> None:
    fixed = {task for task in TASKS if not TASKS[task].generates}
    assert {task for task, _ in front_pairs()} == fixed
    assert all(MOBILE.model_types[task] == MODEL_TYPES[task] for task in fixed)


@pytest.mark.parametrize("format_name", sorted(REFUSED))
def test_a_format_takes_all_but_what_it_refuses(format_name: str) -> None:
    taken = coverage_of(format_name).model_types
    for task, types in MOBILE.model_types.items():
        refused = {t for other, t in REFUSED[format_name] if other == task}
        assert taken[task] == types - refused
        assert refused <= types
    assert len(frozenset().union(*taken.values())) >= 25
    assert all(reason for reason in REFUSED[format_name].values())


@pytest.fixture(scope="module")
def python() -> Path:
    return Toolchains().ensure("onnx", NullReporter()).python


@pytest.fixture(scope="module")
def models(python: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    encoders = tmp_path_factory.mktemp("encoders")
    made = [python, SUPPORT / "make_encoders.py", encoders]
    subprocess.run(made, check=True, capture_output=True)
    return tiny_heads(), encoders


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("akin", sampled((False, True), False))
def test_it_computes_what_the_original_does(
    python: Path, models: tuple[Path, Path], akin: bool
) -> None:
    pairs = ["/".join(pair) for pair in front_only() if (pair[1] in AKIN) == akin]
    found = _lines(_run(python, "prove_fronts.py", *map(str, models), *pairs))
    assert [one["pair"] for one in found] == pairs
    assert [one for one in found if "error" in one] == []
    for one in found:
        assert one["front_relative_difference"] < FLOAT32_DIFFERENCE, one
        assert one["front_cases"] >= 3, one
        assert not {*one["operators"]} & (FOLDED | MASKS), one


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_safe_modules_hold_where_float16_does_not(python: Path) -> None:
    (found,) = _lines(_run(python, "check_swaps.py"))
    for name, figures in found.items():
        assert figures["replaced"] == (["0"] if name in NORMS else []), name
        assert figures["restored"], name
        assert figures["float32"] < FLOAT32_DIFFERENCE, name
        assert figures["float16"] < 0.02, name
    assert {name for name, one in found.items() if one["original in float16"] > 1} == OVERFLOWS


def _run(python: Path, script: str, *arguments: str) -> str:
    done = subprocess.run(
        [python, SUPPORT / script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment({"PYTHONPATH": str(ROOT / "src")}),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
