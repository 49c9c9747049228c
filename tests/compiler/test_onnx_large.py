"""A graph whose weights protobuf cannot hold: read, changed and written with them beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgeward.compiler.formats.onnx_passes.graph import Graph

WIDTH, DEPTH = 16384, 36864
BYTES = WIDTH * DEPTH * 4


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    """One product of 2.25 GiB; its file is a hole, and what is made of it does not stay."""
    assert BYTES > 1 << 31
    with (tmp_path / "model.onnx.data").open("wb") as file:
        file.truncate(BYTES)
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[DEPTH, WIDTH])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="model.onnx.data")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", DEPTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", WIDTH])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    yield path
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_weights_above_two_gigabytes_lie_beside_it(large: Path) -> None:
    (large.parent / "again").mkdir()
    again = large.parent / "again" / "model.onnx"
    Graph(large).save(again)
    assert again.stat().st_size < 4096
    assert (again.parent / "model.onnx.data").stat().st_size >= BYTES
    (weight,) = onnx.load(again, load_external_data=False).graph.initializer
    assert {entry.key: entry.value for entry in weight.external_data}[
        "location"
    ] == "model.onnx.data"
