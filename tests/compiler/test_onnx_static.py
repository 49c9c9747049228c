"""Static int8: ranges from samples, outliers smoothed into the weights, portable operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeward.compiler.formats.onnx_passes.static import to_static
from edgeward.errors import UnsupportedError, UsageError

WIDTH = 128
OUTLIERS = (3, 40)
Floats = NDArray[np.float32]


def write(folder: Path) -> Path:
    """A norm whose gamma makes two channels a hundred times the others, then two products."""
    drawn = np.random.default_rng(0).standard_normal((2, WIDTH, WIDTH)).astype(np.float32)
    gamma = np.ones(WIDTH, np.float32)
    gamma[list(OUTLIERS)] = 100
    first = drawn[0] / WIDTH**0.5
    first[list(OUTLIERS)] /= 50
    held = {
        "gamma": gamma,
        "beta": np.zeros(WIDTH, np.float32),
        "first": first,
        "second": drawn[1] / WIDTH**0.5,
    }
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["normed"], axis=-1),
        helper.make_node("MatMul", ["normed", "first"], ["wide"], name="first_product"),
        helper.make_node("Tanh", ["wide"], ["bent"]),
        helper.make_node("MatMul", ["bent", "second"], ["y"]),
    ]
    shape = ["batch", "sequence", WIDTH]
    graph = helper.make_graph(
        nodes,
        "static",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    path = folder / "float.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def drawn(seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal((2, 9, WIDTH)).astype(np.float32)


def samples(count: int = 8) -> Iterator[dict[str, Floats]]:
    for seed in range(count):
        yield {"x": drawn(seed)}


def run(path: Path) -> Floats:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": drawn(99)})[0])


def error(source: Path, target: Path) -> float:
    exact = run(source)
    return float(np.sqrt(np.mean((run(target) - exact) ** 2)) / exact.std())


def test_it_is_a_quarter_of_the_size_and_near(tmp_path: Path) -> None:
    source, target = write(tmp_path), tmp_path / "static.onnx"
    done = to_static(source, target, samples())
    onnx.checker.check_model(str(target), full_check=True)
    model = onnx.load(target)
    assert {i.domain for i in model.opset_import} == {""}
    restored = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert {len(node.input) for node in restored} == {3}
    assert done["products"] == 2
    assert target.stat().st_size < 0.4 * source.stat().st_size
    assert 0 < error(source, target) < 0.1


def test_smoothing_tames_outliers(tmp_path: Path) -> None:
    source = write(tmp_path)
    to_static(source, tmp_path / "plain.onnx", samples(), alpha=0)
    done = to_static(source, tmp_path / "smooth.onnx", samples())
    assert done["smoothed"] >= 1
    smooth, plain = (error(source, tmp_path / f"{name}.onnx") for name in ("smooth", "plain"))
    assert smooth < 0.7 * plain


def test_symmetric_activations_have_no_zero_point(tmp_path: Path) -> None:
    source, target = write(tmp_path), tmp_path / "static.onnx"
    to_static(source, target, samples(), symmetric=True)
    assert error(source, target) < 0.1
    graph = onnx.load(target).graph
    held = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    points = [held[n.input[2]] for n in graph.node if n.op_type == "QuantizeLinear"]
    assert points
    assert all(point.dtype == np.int8 and not point.any() for point in points)


def test_what_is_excluded_stays_float(tmp_path: Path) -> None:
    target = tmp_path / "static.onnx"
    done = to_static(write(tmp_path), target, samples(), exclude=["first_product"])
    assert done["products"] == 1
    assert "first" in {i.name for i in onnx.load(target).graph.initializer}


def nothing() -> list[dict[str, Any]]:
    return []


def unending() -> list[dict[str, Any]]:
    return [{"x": np.full((1, 2, WIDTH), np.nan, np.float32)}]


@pytest.mark.parametrize("given", [nothing, unending])
def test_samples_that_say_nothing_are_refused(tmp_path: Path, given: Any) -> None:
    with pytest.raises(UsageError, match="Calibration"):
        to_static(write(tmp_path), tmp_path / "static.onnx", given())
    assert [path.name for path in tmp_path.iterdir()] == ["float.onnx"]


def test_a_graph_without_products_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Tanh", ["x"], ["y"])],
        "nothing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "float.onnx")
    with pytest.raises(UnsupportedError, match="nothing to quantise"):
        to_static(tmp_path / "float.onnx", tmp_path / "static.onnx", samples())
