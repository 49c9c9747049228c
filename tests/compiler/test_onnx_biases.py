"""Masks over a looked-up bias: a sum for all heads, the same numbers bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from test_onnx_tidy import HEADS, LEAST, Floats, Sketch, drawn, operators, run

from edgeward.compiler.formats.onnx_passes.tidy import tidy

ROWS = 7
TABLE = drawn(ROWS, HEADS, seed=3) * 9


def biased(path: Path, hidden: float, table: Floats = TABLE, heads: int = 1) -> Path:
    """A bias by distance, chosen where a key is seen, as exporters write it for T5."""
    sketch = Sketch(
        {
            "distances": (TensorProto.INT64, ["sequence", "sequence"]),
            "seen": (TensorProto.BOOL, ["batch", heads, "sequence", "sequence"]),
        },
        ["batch", HEADS, "sequence", "sequence"],
    )
    looked = sketch.op("Gather", table, "distances", axis=0)
    first = sketch.op("Transpose", looked, perm=[2, 0, 1])
    bias = sketch.op("Unsqueeze", first, np.array([0]))
    filled = sketch.op("Expand", np.float32(hidden), sketch.op("Shape", bias))
    sketch.of_shape(filled, 1, HEADS, "sequence", "sequence")
    return sketch.write(path, sketch.op("Where", "seen", bias, filled))


@pytest.mark.parametrize("hidden", [-np.inf, LEAST])
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.integers(1, 3), length=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_mask_is_added_bit_for_bit(
    tmp_path: Path, hidden: float, rows: int, length: int, seed: int
) -> None:
    source, short = tmp_path / f"plain{hidden}.onnx", tmp_path / f"tidy{hidden}.onnx"
    if not source.is_file():
        assert tidy(biased(source, hidden), short)["biases"] == 1
        onnx.checker.check_model(str(short), full_check=True)
    assert operators(short)["Expand"] == 0, "nothing is as large as all heads' scores"
    generator = np.random.default_rng(seed)
    given_ = {
        "distances": generator.integers(0, ROWS, (length, length)),
        "seen": generator.random((rows, 1, length, length)) < 0.5,
    }
    assert np.array_equal(run(short, given_), run(source, given_))


@pytest.mark.parametrize(
    ("hidden", "table", "heads"),
    [
        (-1e4, TABLE, 1),
        (-np.inf, np.where(TABLE > 9, np.float32(np.inf), np.float32(np.nan)), 1),
        (LEAST, TABLE * np.float32(1e35), 1),
        (LEAST, TABLE, HEADS),
    ],
    ids=["not swallowed", "not finite", "too large", "a mask of all heads"],
)
def test_a_mask_whose_sum_is_another_number_or_no_smaller_stays(
    tmp_path: Path, hidden: float, table: Floats, heads: int
) -> None:
    source = biased(tmp_path / "plain.onnx", hidden, table, heads)
    assert tidy(source, tmp_path / "tidy.onnx")["biases"] == 0
