"""Graphs in float16: typed throughout, float32 at the border, masks that still mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeward.compiler.formats.onnx_passes.half import to_float16
from edgeward.errors import UnsupportedError

WIDTH = 32
LEAST = float(np.finfo(np.float32).min)
Floats = NDArray[np.float32]


def write(folder: Path, *, scale: float = 1.0, epsilon: float = 1e-5) -> Path:
    """A norm, attention scores with a mask by Where, a softmax, a decomposed RMS norm."""
    drawn = np.random.default_rng(0).standard_normal((3, WIDTH, WIDTH)).astype(np.float32)
    held: dict[str, NDArray[Any]] = {
        "gamma": np.ones(WIDTH, np.float32),
        "beta": np.zeros(WIDTH, np.float32),
        "query": drawn[0] / WIDTH**0.5 * np.float32(scale),
        "value": drawn[1] / WIDTH**0.5,
        "least": np.array(LEAST, np.float32),
        "two": np.array(2, np.float32),
        "epsilon": np.array(epsilon, np.float32),
        "last": np.array([-1], np.int64),
    }
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["normed"], axis=-1),
        helper.make_node("MatMul", ["normed", "query"], ["queries"]),
        helper.make_node("Transpose", ["normed"], ["keys"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["queries", "keys"], ["scores"]),
        helper.make_node("Where", ["mask", "scores", "least"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["normed", "value"], ["values"]),
        helper.make_node("MatMul", ["shares", "values"], ["mixed"]),
        helper.make_node("Pow", ["mixed", "two"], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "last"], ["power"], keepdims=1),
        helper.make_node("Add", ["power", "epsilon"], ["safe"]),
        helper.make_node("Sqrt", ["safe"], ["length"]),
        helper.make_node("Div", ["mixed", "length"], ["y"]),
    ]
    shape = ["batch", "sequence", WIDTH]
    graph = helper.make_graph(
        nodes,
        "half",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch", 1, "sequence"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    path = folder / "float.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def run(path: Path, x: Floats, mask: NDArray[np.bool_]) -> Floats:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x, "mask": mask})[0])


@pytest.fixture
def x() -> Floats:
    return np.random.default_rng(1).standard_normal((2, 5, WIDTH)).astype(np.float32)


@pytest.fixture
def mask() -> NDArray[np.bool_]:
    allowed = np.ones((2, 1, 5), bool)
    allowed[1, 0, 3:] = False
    return allowed


def test_it_is_half_the_size_and_near(tmp_path: Path, x: Floats, mask: NDArray[np.bool_]) -> None:
    source, target = write(tmp_path), tmp_path / "half.onnx"
    done = to_float16(source, target)
    onnx.checker.check_model(str(target), full_check=True)
    exact, half = run(source, x, mask), run(target, x, mask)
    assert half.dtype == np.float32
    difference = np.abs(half - exact).max()
    assert 0 < difference < 0.02
    assert done["bytes"] < 0.75 * done["bytes_before"]


def test_a_mask_still_masks(tmp_path: Path, x: Floats, mask: NDArray[np.bool_]) -> None:
    source, target = write(tmp_path), tmp_path / "half.onnx"
    to_float16(source, target)
    other = x.copy()
    other[1, 3:] += 5
    assert np.array_equal(run(target, x, mask)[1, :3], run(target, other, mask)[1, :3])
    nothing = np.zeros_like(mask)
    assert np.isfinite(run(target, x, nothing)).all()


def test_squares_do_not_overflow(tmp_path: Path, mask: NDArray[np.bool_]) -> None:
    source, target = write(tmp_path, epsilon=1e-12), tmp_path / "half.onnx"
    to_float16(source, target)
    large = 30_000 * np.random.default_rng(2).standard_normal((2, 5, WIDTH)).astype(np.float32)
    large = np.clip(large, -60_000, 60_000)
    exact, half = run(source, large, mask), run(target, large, mask)
    assert np.abs(half - exact).max() < 0.05


def test_a_weight_that_half_cannot_hold_stays(
    tmp_path: Path, x: Floats, mask: NDArray[np.bool_]
) -> None:
    source, target = write(tmp_path, scale=1e6), tmp_path / "half.onnx"
    to_float16(source, target)
    assert np.isfinite(run(target, x, mask)).all()
    held = {i.name: i.data_type for i in onnx.load(target).graph.initializer}
    assert held["query"] == TensorProto.FLOAT
    assert held["value"] == TensorProto.FLOAT16


def test_bfloat16_is_typed_too(tmp_path: Path) -> None:
    target = tmp_path / "half.onnx"
    to_float16(write(tmp_path), target, bfloat16=True)
    onnx.checker.check_model(str(target), full_check=True)
    held = {i.name: i.data_type for i in onnx.load(target).graph.initializer}
    assert held["value"] == TensorProto.BFLOAT16


def test_a_graph_without_floats_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "whole",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [1])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "whole.onnx")
    with pytest.raises(UnsupportedError, match="nothing to convert"):
        to_float16(tmp_path / "whole.onnx", tmp_path / "half.onnx")
