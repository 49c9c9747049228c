"""Dynamic int8 with the products that lose most in float: activations count as well as weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.compiler.formats.onnx_passes.dynamic import to_dynamic
from edgeward.compiler.formats.onnx_passes.dynamic_mixed import to_dynamic_mixed
from edgeward.errors import UnsupportedError

WIDTH = 64


def write(folder: Path) -> Path:
    """One product reads a channel a thousand times the others, which its weights all but ignore."""
    drawn = np.random.default_rng(0).standard_normal((4, WIDTH, WIDTH)).astype(np.float32) / 8
    outlier = np.ones(WIDTH, np.float32)
    outlier[7] = 1000
    drawn[1, 7] /= 1000
    held = {"outlier": outlier, **{f"layer{n}": drawn[n] for n in range(4)}}
    nodes = [
        helper.make_node("MatMul", ["x", "layer0"], ["a"], name="/layer0/MatMul"),
        helper.make_node("Mul", ["a", "outlier"], ["b"]),
        helper.make_node("MatMul", ["b", "layer1"], ["c"], name="/layer1/MatMul"),
        helper.make_node("MatMul", ["c", "layer2"], ["d"], name="/layer2/MatMul"),
        helper.make_node("MatMul", ["d", "layer3"], ["y"], name="/layer3/MatMul"),
    ]
    graph = helper.make_graph(
        nodes,
        "outlier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    path = folder / "float.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def samples() -> Iterator[dict[str, Any]]:
    for seed in range(4):
        yield {"x": np.random.default_rng(seed).standard_normal((32, WIDTH)).astype(np.float32)}


def error(source: Path, target: Path) -> float:
    given = {"x": np.random.default_rng(99).standard_normal((32, WIDTH)).astype(np.float32)}
    exact, found = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, given)
        for path in (source, target)
    )
    return float(np.linalg.norm(found[0] - exact[0]) / np.linalg.norm(exact[0]))


def test_the_product_that_loses_most_stays_in_float(tmp_path: Path) -> None:
    source, plain, mixed = write(tmp_path), tmp_path / "plain.onnx", tmp_path / "mixed.onnx"
    to_dynamic(source, plain)
    done = to_dynamic_mixed(source, mixed, samples, share=0.3, left=0.1)
    assert {one["name"]: one["bits"] for one in done["layers"]} == {
        "layer0": 8,
        "layer1": 32,
        "layer2": 8,
        "layer3": 8,
    }
    errors = {one["name"]: one["error"] for one in done["layers"]}
    assert errors["layer1"] > 10 * errors["layer2"] > 0
    kept = {i.name for i in onnx.load(mixed).graph.initializer}
    assert kept >= {"layer1", "layer2_int8"}
    assert error(source, mixed) < 0.3 * error(source, plain)
    onnx.checker.check_model(str(mixed), full_check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "float.onnx",
        "mixed.onnx",
        "plain.onnx",
    ]


def test_a_graph_without_products_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Tanh", ["x"], ["y"])],
        "nothing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "float.onnx")
    with pytest.raises(UnsupportedError, match="nothing to quantise"):
        to_dynamic_mixed(
            tmp_path / "float.onnx", tmp_path / "small.onnx", samples, share=0.3, left=0.1
        )
