"""The proof a bundle carries: what counts as the same, what as worse, and golden files that lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_damage import copy_of, edit_manifest, replace_file
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from tiny_model import TEXTS, WIDTH, tiny_cases, tiny_weights
from typed import typed

from edgeward.errors import BundleError, IntegrityError
from edgeward.runtimes.bundle.manifest import Check
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.proof.compare import (
    compare_vectors,
    judge,
    rank_agreement,
    relative_difference,
)
from edgeward.runtimes.proof.files import CASES_NAME, REFERENCE_NAME
from edgeward.runtimes.proof.golden import run_golden

Floats = NDArray[np.float32]
VECTORS = arrays.arrays(
    np.float32, (5, 4), elements=st.floats(-1e3, 1e3, width=32), unique=True
).filter(lambda array: bool((np.linalg.norm(array, axis=1) > 1e-3).all()))


def plain_cosine(first: Floats, second: Floats) -> float:
    a, b = first.astype(np.float64), second.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@given(VECTORS, VECTORS)
def test_cosines_and_differences_are_the_plain_formulas(reference: Floats, actual: Floats) -> None:
    found = compare_vectors(reference, actual)
    cosines = [plain_cosine(a, b) for a, b in zip(reference, actual, strict=True)]
    assert found["cosine_min"] == pytest.approx(min(cosines), abs=1e-6)
    assert found["cosine_mean"] == pytest.approx(np.mean(cosines), abs=1e-6)
    largest = np.abs(reference.astype(np.float64) - actual).max()
    assert found["max_abs_difference"] == pytest.approx(largest, rel=1e-5)


@given(VECTORS)
def test_the_same_is_the_best_there_is(reference: Floats) -> None:
    found = compare_vectors(reference, reference.copy())
    assert found["cosine_min"] == pytest.approx(1.0)
    assert found["max_abs_difference"] == 0.0
    assert relative_difference(reference, reference) == 0.0


@given(VECTORS, st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 4), st.integers(0, 3))
def test_one_value_that_is_no_number_is_the_worst_there_is(
    reference: Floats, value: float, row: int, column: int
) -> None:
    actual = reference.copy()
    actual[row, column] = value
    found = compare_vectors(reference, actual)
    assert found["cosine_min"] == -1.0
    assert found["max_abs_difference"] >= 1e30
    assert relative_difference(reference, actual) >= 1e30
    assert rank_agreement(reference, actual) == 0.0
    assert all(np.isfinite(list(found.values())))


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (0, 4), (5, 4, 1)])
def test_another_shape_is_the_worst_there_is(shape: tuple[int, ...]) -> None:
    reference = np.ones((5, 4), np.float32)
    found = compare_vectors(reference, np.ones(shape, np.float32))
    assert found["cosine_min"] == found["cosine_mean"] == -1.0
    assert found["max_abs_difference"] >= 1e30
    assert relative_difference(reference, np.ones(shape, np.float32)) >= 1e30


def test_nothing_compared_proves_nothing() -> None:
    nothing = np.zeros((0, 4), np.float32)
    assert compare_vectors(nothing, nothing)["cosine_min"] == -1.0


def test_zero_is_like_zero_and_like_nothing_else() -> None:
    zero, one = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
    assert compare_vectors(zero, zero)["cosine_min"] == 1.0
    assert compare_vectors(zero, one)["cosine_min"] == 0.0
    assert compare_vectors(one, zero)["cosine_min"] == 0.0


def test_rank_agreement_is_spearmans_with_shared_ranks() -> None:
    reference = np.array([[1, 0], [2, 0], [4, 0], [8, 0]], np.float32)
    assert rank_agreement(reference, reference * 3) == pytest.approx(1.0)
    swapped = np.array([[1, 0], [4, 0], [2, 0], [8, 0]], np.float32)
    assert rank_agreement(reference, swapped) == pytest.approx(15 / 17)
    assert rank_agreement(reference, reference[::-1]) == pytest.approx(-1.0)


def bound(metric: str, value: float, direction: str) -> Check:
    return Check.model_validate(
        {"metric": metric, "value": 0.0, "bound": value, "direction": direction}
    )


@pytest.mark.parametrize(
    ("value", "direction", "passed"),
    [
        (0.99, "at-least", True),
        (0.9899, "at-least", False),
        (0.99, "at-most", True),
        (0.9901, "at-most", False),
        (None, "at-least", False),
        (None, "at-most", False),
    ],
)
def test_a_bound_is_met_or_not_and_a_missing_figure_never(
    value: float | None, direction: str, passed: bool
) -> None:
    metrics = {} if value is None else {"m": value}
    (check,) = judge(metrics, [bound("m", 0.99, direction)])
    assert check.passed is passed


def test_the_golden_inputs_pass_here(tiny_bundle: Bundle) -> None:
    report = run_golden(tiny_bundle, threads=1)
    assert report.passed
    assert report.cases == len(TEXTS)
    assert report.metrics["cosine_min"] == pytest.approx(1.0)
    assert 0 < report.latency_ms["p50"] <= report.latency_ms["p95"] <= report.latency_ms["p99"]
    assert report.peak_memory_bytes > 1e6
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["passed"] is True


@pytest.fixture
def folder(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy to forge."""
    return copy_of(tiny_bundle, tmp_path / "bundle")


@pytest.mark.parametrize("size", [1e-4, 0.5])
def test_vectors_that_another_model_made_fall_short(folder: Path, size: float) -> None:
    tensors = load_file(folder / REFERENCE_NAME)
    noise = np.random.default_rng(1).standard_normal(tensors["vectors"].shape)
    tensors["vectors"] = (tensors["vectors"] + size * noise).astype(np.float32)
    replace_file(folder, REFERENCE_NAME, save(tensors))
    assert run_golden(open_bundle(folder), threads=1).passed is (size < 0.01)


def test_token_ids_of_another_tokenizer_fall_short(folder: Path) -> None:
    tensors = load_file(folder / REFERENCE_NAME)
    tensors["ids"][3] += 1
    replace_file(folder, REFERENCE_NAME, save(tensors))
    report = run_golden(open_bundle(folder), threads=1)
    assert [check.metric for check in report.checks if not check.passed] == ["token_ids_equal"]
    assert report.metrics["token_ids_equal"] == pytest.approx(1 - 1 / len(TEXTS))


def cases(document: object) -> tuple[str, bytes]:
    return CASES_NAME, json.dumps(document).encode()


def reference(**changes: Any) -> tuple[str, bytes]:
    count = len(TEXTS)
    tensors = {
        "vectors": np.ones((count, WIDTH), np.float32),
        "ids": np.ones(count, np.int64),
        "lengths": np.ones(count, np.int64),
    }
    return REFERENCE_NAME, save({k: v for k, v in {**tensors, **changes}.items() if v is not None})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (CASES_NAME, b"{"),
        (CASES_NAME, b"[" * 100_000),
        (CASES_NAME, b"\xff"),
        cases([]),
        cases({}),
        cases({"cases": 5}),
        cases({"cases": []}),
        cases({"cases": [5] * len(TEXTS)}),
        cases({"cases": [{"text": "gate"}]}),
        (REFERENCE_NAME, b""),
        (REFERENCE_NAME, b"\xff" * 64),
        reference(vectors=None),
        reference(vectors=np.ones((2, WIDTH), np.float32)),
        reference(vectors=np.ones(len(TEXTS), np.float32)),
        reference(vectors=np.full((len(TEXTS), WIDTH), np.nan, np.float32)),
        reference(ids=None),
        reference(ids=np.ones(1, np.int64)),
        reference(ids=np.ones((len(TEXTS), 1), np.int64)),
        reference(ids=np.full(len(TEXTS), np.nan, np.float32)),
        reference(lengths=np.array([-1, 2, 2, 1, 1])),
        reference(lengths=np.full(len(TEXTS), 2**62)),
        reference(lengths=np.ones((len(TEXTS), 1), np.int64)),
    ],
)
def test_golden_files_that_lie_are_told(folder: Path, name: str, data: bytes) -> None:
    replace_file(folder, name, data)
    with pytest.raises(IntegrityError, match="golden inputs") as caught:
        run_golden(open_bundle(folder), threads=1)
    assert caught.value.why


@pytest.mark.parametrize("width", [0, WIDTH - 1])
def test_vectors_of_another_width_fall_short(folder: Path, width: int) -> None:
    lengths = np.array([len(ids) for ids in tiny_cases(tiny_weights()).ids])
    vectors = np.ones((len(TEXTS), width), np.float32)
    made = reference(vectors=vectors, lengths=lengths, ids=np.ones(lengths.sum(), np.int64))
    replace_file(folder, *made)
    report = run_golden(open_bundle(folder), threads=1)
    assert not report.passed
    assert report.metrics["cosine_min"] == -1.0


def test_a_bundle_without_golden_inputs_says_so(folder: Path) -> None:
    edit_manifest(folder, lambda document: document["golden"].update(tolerances=[]))
    with pytest.raises(BundleError, match="carries no golden inputs"):
        run_golden(open_bundle(folder), threads=1)


def test_verify_names_the_bundle_it_stands_in(folder: Path) -> None:
    done = typed("verify", ".", "-o", "jsonl", cwd=folder)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["bundle"] for row in rows} == {"bundle"}


def test_a_self_test_without_its_argument_is_wrong_usage(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeward.runtimes.selftest"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage:")
    done = subprocess.run([*command, os.devnull], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: No bundle at")
