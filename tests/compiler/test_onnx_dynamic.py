"""Dynamic int8 in the engine: exact sums, on processors whose 8-bit products overflow too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.compiler.formats.onnx_passes.dynamic import to_dynamic
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.onnxruntime import open_model

WIDTH = 64


def write(path: Path, layers: list[str]) -> None:
    """A product for each name: weights at the ends of their range, as saturation has it worst."""
    weight = np.full((WIDTH, WIDTH), 1 / WIDTH, np.float32)
    names = ["x", *(f"y{n}" for n in range(len(layers)))]
    shape = ["rows", WIDTH]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [names[n], layer], [names[n + 1]])
            for n, layer in enumerate(layers)
        ],
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, name) for name in dict.fromkeys(layers)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)


@pytest.mark.parametrize("layers", [["a"], ["a", "b"], ["a", "a"]])
def test_products_at_the_ends_of_their_range_do_not_overflow(
    tmp_path: Path, layers: list[str]
) -> None:
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    write(source, layers)
    to_dynamic(source, target)
    given = {"x": np.ones((3, WIDTH), np.float32)}
    (found,) = open_model(target, EngineOptions(threads=1)).run(given).values()
    assert np.allclose(found, 1.0, rtol=0.05)


@pytest.mark.parametrize(("layers", "highest"), [(["a", "b"], 127), (["a", "a"], 63)])
def test_a_shared_weight_has_a_bit_less(tmp_path: Path, layers: list[str], highest: int) -> None:
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    write(source, layers)
    to_dynamic(source, target)
    held = {i.name: numpy_helper.to_array(i) for i in onnx.load(target).graph.initializer}
    assert held["a_int8"].max() == highest
