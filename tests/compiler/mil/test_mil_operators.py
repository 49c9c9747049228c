"""Every operator that a conversion emits computes what torch computes, from the saved package."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import pytest
from documents import ROOT
from matrix import sampled
from mil_rows import Row
from mil_rows_builder import BUILT
from mil_rows_compressed import COMPRESSED, Compressed
from mil_rows_torch import TORCH

from edgeward.compiler.mil.registry import OPERATORS

# A group is converted by the first of its tests.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
Found = Callable[..., dict[str, Any]]
GROUPS: dict[str, list[Row]] = {**TORCH, **BUILT}
ROWS = [(group, row) for group, rows in GROUPS.items() for row in rows]
# No package is made for it: `--minimum-ios` begins with 16.
OLDEST = "iOS15"
# Both sides compute in float32; what is left is the order of sums.
EXACT = 2e-5
# Some operators one after the other, each rounded to 11 bits.
ROUNDED = 4e-3
# Shown by whole programs (`test_mil_programs.py`).
ELSEWHERE = {"read_state", "coreml_update_state", "classify", "constexpr_cast"}


@pytest.mark.parametrize(
    ("group", "row"),
    sampled(ROWS, *(row for row in ROWS if row[0] != OLDEST)),
    ids=lambda one: one.name if isinstance(one, Row) else one,
)
def test_an_operator_computes_what_torch_computes(found_there: Found, group: str, row: Row) -> None:
    found = found_there("mil_check.py", group)[row.name]
    assert "error" not in found, found["error"]
    assert row.operator in found["operators"]
    assert found["exact"] <= EXACT
    assert found["rounded"] <= ROUNDED
    assert found["overflows"] == 0


@pytest.mark.parametrize("row", COMPRESSED, ids=lambda row: row.name)
def test_compressed_weights_are_those_that_coremltools_decompresses(
    found_there: Found, row: Compressed
) -> None:
    found = found_there("mil_compressed.py")[row.name]
    assert "error" not in found, found["error"]
    assert set(row.operators) <= set(found["operators"])
    assert found["constexprs"] >= 3
    assert found["apart"] == 0
    # Weights were rounded at all: the comparison is not of two whole models.
    assert found["lost"] > 1e-3


def test_every_operator_of_the_registry_has_a_row() -> None:
    shown = {row.operator for rows in GROUPS.values() for row in rows}
    shown |= {operator for row in COMPRESSED for operator in row.operators}
    assert set(OPERATORS) <= shown | ELSEWHERE


def test_every_row_of_the_registry_names_a_function() -> None:
    folder = ROOT / "compiler" / "mil" / "operators"
    for operator, row in OPERATORS.items():
        module, _, name = row.partition(":")
        tree = ast.parse((folder / f"{module.rpartition('.')[2]}.py").read_text("utf-8"))
        functions = {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
        assert name in functions, operator
