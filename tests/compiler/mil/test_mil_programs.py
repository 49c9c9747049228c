"""Whole programs: states, what float16 loses, shapes, functions, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

# All programs are converted by the first of the tests.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
Found = Callable[..., dict[str, Any]]
Program = Callable[[str], dict[str, Any]]


@pytest.fixture
def program(found_there: Found) -> Program:
    """What a check of `mil_programs.py` came to."""

    def one(name: str) -> dict[str, Any]:
        found: dict[str, Any] = found_there("mil_programs.py")[name]
        assert "error" not in found, found["error"]
        return found

    return one


def test_a_state_is_kept_between_runs_and_shared_with_no_other(program: Program) -> None:
    found = program("states")
    assert found["names"] == ["seen"]
    assert found["dtype"] == "fp16"
    assert found["firsts"] == [3.0, 6.0, 9.0]
    assert found["other"] == 3.0
    assert found["alone"] == [3.0, 3.0]
    assert found["kept"] == [[4.5] * 3] * 2
    assert {"read_state", "coreml_update_state"} <= set(found["operators"])


def test_overflow_shows_where_it_begins_and_only_when_rounded(program: Program) -> None:
    found = program("overflow")
    assert found["plain exact"] == {"apart": 0.0, "dtype": "float32", "overflows": []}
    plain = found["plain rounded"]
    assert plain["dtype"] == "float16"
    assert plain["overflows"] == [["pow", 653.0**2, 1]]
    assert plain["apart"] > 1
    scaled = found["scaled rounded"]
    assert scaled["overflows"] == []
    assert scaled["apart"] < 1e-3


def test_infinity_that_a_program_means_is_no_overflow(program: Program) -> None:
    found = program("infinite_mask")
    assert found["overflows"] == 0
    assert found["apart"] < 1e-3


def test_differences_that_float16_cannot_hold_are_lost_when_rounded(program: Program) -> None:
    found = program("wide_range")
    assert found["exact"] == [[0.5, 1.0, 1.5]]
    # Numbers around 4096 are 4 apart.
    assert found["rounded"] == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("kind", ["enumerated", "ranged"])
def test_flexible_shapes_run_and_others_are_refused(program: Program, kind: str) -> None:
    found = program("shapes")[kind]
    assert found["apart"] < 1e-3
    assert found["shapes"] == ([[2, 4], [5, 4]] if kind == "enumerated" else [])
    assert found["ranges"] == ([[1, 8], [4, 4]] if kind == "ranged" else [])
    assert found["refused"][0] == "UsageError"
    assert "(9, 4)" in found["refused"][1]


def test_functions_run_by_name(program: Program) -> None:
    found = program("functions")
    assert found["functions"] == ["one", "other"]
    assert found["default"] == "other"
    assert max(found["apart"].values()) < 1e-3


def test_a_classifier_names_its_class(program: Program) -> None:
    found = program("classifier")
    assert found["label"] == found["wanted"]
    assert found["apart"] < 1e-3


def test_a_constant_is_cast(program: Program) -> None:
    found = program("constant_cast")
    assert "constexpr_cast" in found["operators"]
    assert found["out"] == [[1.5, 2.25], [3.0, -2.0]]
    assert found["dtype"] == "float32"


def test_each_output_is_traced(program: Program) -> None:
    found = program("tracing")
    assert found["count"] == found["steps"]
    assert found["last"] in found["outputs"]
    assert np.isclose(found["least"], found["out"])


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("lacking", "UsageError", "takes input"),
        ("unknown input", "UsageError", "more"),
        ("shape", "UsageError", "(2, 5)"),
        ("function", "UsageError", "has no function nothing"),
        ("operator", "EngineError", "dream_up"),
        ("nothing", "EngineError", "no Core ML package"),
        ("manifest", "EngineError", "no Core ML package"),
        ("cut", "EngineError", "damaged"),
        ("weights", "EngineError", "cannot be loaded"),
        ("short weights", "EngineError", "cannot be loaded"),
    ],
)
def test_what_cannot_run_is_refused_in_words(
    program: Program, case: str, kind: str, words: str
) -> None:
    found = program("refusals")[case]
    assert found[0] == kind
    assert words in found[1]
