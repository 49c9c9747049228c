"""Weights stored as bfloat16: half the file, float32 between, operators that any engine runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeward.compiler.formats.onnx_passes.stored import to_stored_bfloat16
from edgeward.errors import UnsupportedError

VOCABULARY, WIDTH = 300, 64
Floats = NDArray[np.float32]


def write(folder: Path, *, tied: bool) -> Path:
    drawn = np.random.default_rng(0)
    table = drawn.standard_normal((VOCABULARY, WIDTH)).astype(np.float32)
    lowest = np.finfo(np.float32).min
    held = {
        "table": table,
        "inner": (drawn.standard_normal((WIDTH, WIDTH)) / 8).astype(np.float32),
        "mask": np.full((16, 16), lowest, np.float32),
        "small": np.array([0.1], np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "inner"], ["bent"]),
        helper.make_node("ReduceMax", ["mask"], ["far"], keepdims=0),
        helper.make_node("Max", ["bent", "far"], ["same"]),
        helper.make_node("Mul", ["same", "small"], ["scaled"]),
    ]
    last = "scaled"
    if tied:
        nodes.append(helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["scaled", "turned"], ["logits"]))
        last = "logits"
    shape = ["n", VOCABULARY if tied else WIDTH]
    graph = helper.make_graph(
        nodes,
        "stored",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    path = folder / "float.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def run(path: Path) -> Floats:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"ids": np.arange(20)})[0])


@pytest.mark.parametrize("tied", [True, False])
def test_it_is_half_the_file_and_near(tmp_path: Path, tied: bool) -> None:
    source, target = write(tmp_path, tied=tied), tmp_path / "stored.onnx"
    done = to_stored_bfloat16(source, target)
    onnx.checker.check_model(str(target), full_check=True)
    assert done["weights"] == 2
    assert target.stat().st_size < 0.55 * source.stat().st_size
    exact, found = run(source), run(target)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - exact).max() / exact.std() < 0.05


def test_weights_are_rounded_to_the_nearest(tmp_path: Path) -> None:
    import ml_dtypes

    target = tmp_path / "stored.onnx"
    to_stored_bfloat16(write(tmp_path, tied=False), target)
    held = {i.name: numpy_helper.to_array(i) for i in onnx.load(target).graph.initializer}
    assert held["inner"].dtype == ml_dtypes.bfloat16
    wide = np.random.default_rng(0)
    wide.standard_normal((VOCABULARY, WIDTH))
    exact = (wide.standard_normal((WIDTH, WIDTH)) / 8).astype(np.float32)
    assert (np.abs(held["inner"].astype(np.float32) - exact) <= np.abs(exact) / 256).all()


def test_a_table_that_is_looked_up_is_cast_row_by_row(tmp_path: Path) -> None:
    target = tmp_path / "stored.onnx"
    for tied, wanted in ((False, "table"), (True, "table_float32")):
        to_stored_bfloat16(write(tmp_path, tied=tied), target)
        graph = onnx.load(target).graph
        assert next(n for n in graph.node if n.op_type == "Gather").input[0] == wanted


def test_what_bfloat16_cannot_hold_stays(tmp_path: Path) -> None:
    target = tmp_path / "stored.onnx"
    to_stored_bfloat16(write(tmp_path, tied=False), target)
    kinds = {i.name: i.data_type for i in onnx.load(target).graph.initializer}
    assert kinds["mask"] == kinds["small"] == TensorProto.FLOAT
    assert kinds["inner"] == TensorProto.BFLOAT16


def test_a_graph_without_weights_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Tanh", ["x"], ["y"])],
        "nothing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "float.onnx")
    with pytest.raises(UnsupportedError, match="nothing to store"):
        to_stored_bfloat16(tmp_path / "float.onnx", tmp_path / "stored.onnx")
