"""Symbolic dimensions made numbers: same values, nothing computed that is known, weights once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_model import tiny_weights, write_tiny_model

from edgeward.compiler.formats.onnx_passes import shared
from edgeward.compiler.formats.onnx_passes.blocks import to_blocks
from edgeward.compiler.formats.onnx_passes.dynamic import to_dynamic
from edgeward.compiler.formats.onnx_passes.graph import Graph
from edgeward.compiler.formats.onnx_passes.shapes import fix_axes
from edgeward.compiler.formats.onnx_shapes import check_fixed, fix_shapes
from edgeward.compiler.stage_context import StageContext
from edgeward.errors import StageError, UnsupportedError, UsageError

WIDTH = 160
AXES = ["batch", "sequence"]
IDS = ("input_ids", "attention_mask")
Floats = NDArray[np.float32]


def drawn(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) / 8


def write(path: Path, nodes: list[Any], held: dict[str, Any], *, output: list[Any]) -> Path:
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, AXES) for n in IDS]
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs,
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )
    return path


def op(kind: str, inputs: str, output: str, **given: Any) -> Any:
    return helper.make_node(kind, inputs.split(), [output], name=output, **given)


def chained(path: Path) -> Path:
    """What exporters write around dynamic shapes: their sizes read, joined, ranged, compared."""
    nodes = [
        op("Gather", "table input_ids", "states"),
        op("Shape", "input_ids", "sizes"),
        op("Gather", "sizes first", "rows", axis=0),
        op("Gather", "sizes second", "length", axis=0),
        op("Range", "nothing length one", "places"),
        op("Unsqueeze", "places zeroth", "across"),
        op("Unsqueeze", "places last", "down"),
        op("LessOrEqual", "across down", "earlier"),
        op("Unsqueeze", "length zeroth", "length_one"),
        op("Unsqueeze", "rows zeroth", "row_one"),
        op("Concat", "row_one length_one length_one", "square", axis=0),
        op("Expand", "earlier square", "spread"),
        op("Cast", "spread", "seen", to=TensorProto.FLOAT),
        op("Concat", "row_one length_one wide", "whole", axis=0),
        op("MatMul", "seen states", "summed"),
        op("MatMul", "summed matrix", "turned"),
        op("Reshape", "turned whole", "shaped"),
        op("Cast", "attention_mask", "kept", to=TensorProto.FLOAT),
        op("Unsqueeze", "kept last", "column"),
        op("Mul", "shaped column", "out"),
    ]
    held = {
        "table": drawn(200, WIDTH),
        "matrix": drawn(WIDTH, WIDTH, seed=1),
        "first": np.array(0),
        "second": np.array(1),
        "nothing": np.array(0),
        "one": np.array(1),
        "zeroth": np.array([0]),
        "last": np.array([-1]),
        "wide": np.array([WIDTH]),
    }
    return write(path, nodes, held, output=[*AXES, WIDTH])


def run(path: Path, inputs: dict[str, Any]) -> Floats:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def tokens(rows: int, length: int) -> dict[str, Any]:
    ids = np.random.default_rng(0).integers(0, 100, (rows, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def stage(folder: Path, **buckets: dict[str, int]) -> Path:
    """The stage over `model.onnx` of the folder; what it leaves lies in `left`."""
    left = folder / "left"
    left.mkdir()
    if not (folder / "tokenizer.json").is_file():
        write_tiny_model(folder / "assets", tiny_weights())
    context = StageContext({"model": folder, "assets": folder / "assets"}, left, scratch=folder)
    fix_shapes(context, {"buckets": buckets, "words": list(buckets)})
    return left


def test_only_what_depends_on_values_is_left(tmp_path: Path) -> None:
    graph = Graph(chained(tmp_path / "plain.onnx"))
    fix_axes(graph, {"batch": 2, "sequence": 6})
    graph.save(tmp_path / "fixed.onnx")
    check_fixed(tmp_path / "fixed.onnx")
    left = [node.op_type for node in onnx.load(tmp_path / "fixed.onnx").graph.node]
    assert left == ["Gather", "MatMul", "MatMul", "Reshape", "Cast", "Unsqueeze", "Mul"]
    given = tokens(2, 6)
    wanted, found = (run(tmp_path / f"{name}.onnx", given) for name in ("plain", "fixed"))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_weights_of_several_graphs_are_stored_once(tmp_path: Path) -> None:
    chained(tmp_path / "model.onnx")
    size = (tmp_path / "model.onnx").stat().st_size
    left = stage(tmp_path, model={"batch": 1, "sequence": 8}, small={"batch": 1, "sequence": 4})
    names = sorted(path.name for path in left.iterdir())
    assert names == ["model.onnx", "model.onnx.data", "small.onnx"]
    assert sum(path.stat().st_size for path in left.iterdir()) < size * 1.3
    for name, length in (("model", 8), ("small", 4)):
        given = tokens(1, length)
        wanted = run(tmp_path / "model.onnx", given)
        np.testing.assert_allclose(run(left / f"{name}.onnx", given), wanted, rtol=1e-5, atol=1e-6)


def test_weights_that_no_graph_can_hold_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "INLINE_LIMIT_BYTES", 1 << 16)
    chained(tmp_path / "model.onnx")
    left = stage(tmp_path, model={"batch": 1, "sequence": 8})
    assert sorted(path.name for path in left.iterdir()) == ["model.onnx", "model.onnx.data"]
    given = tokens(1, 8)
    wanted = run(tmp_path / "model.onnx", given)
    np.testing.assert_allclose(run(left / "model.onnx", given), wanted, rtol=1e-5, atol=1e-6)


def test_one_graph_keeps_its_weights(tmp_path: Path) -> None:
    chained(tmp_path / "model.onnx")
    left = stage(tmp_path, model={"batch": 1, "sequence": 8})
    assert [path.name for path in left.iterdir()] == ["model.onnx"]
    given = tokens(1, 8)
    wanted = run(tmp_path / "model.onnx", given)
    np.testing.assert_allclose(run(left / "model.onnx", given), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["int8", "blocks"])
def test_rounded_graphs_are_fixed_too(tmp_path: Path, precision: str) -> None:
    plain = chained(tmp_path / "plain.onnx")
    if precision == "int8":
        to_dynamic(plain, tmp_path / "model.onnx")
    else:
        to_blocks(plain, tmp_path / "model.onnx", bits=8)
    left = stage(tmp_path, model={"batch": 2, "sequence": 8}, small={"batch": 1, "sequence": 4})
    for name, rows, length in (("model", 2, 8), ("small", 1, 4)):
        given = tokens(rows, length)
        wanted = run(tmp_path / "model.onnx", given)
        np.testing.assert_allclose(run(left / f"{name}.onnx", given), wanted, rtol=1e-4, atol=1e-5)


def test_an_axis_is_there_and_has_a_size(tmp_path: Path) -> None:
    plain = chained(tmp_path / "plain.onnx")
    with pytest.raises(UsageError, match="no axis 'depth'") as caught:
        fix_axes(Graph(plain), {"batch": 1, "sequence": 4, "depth": 3})
    assert "sequence" in caught.value.why
    with pytest.raises(UsageError, match="sequence of input_ids"):
        fix_axes(Graph(plain), {"batch": 1})


def test_a_shape_that_values_decide_is_refused(tmp_path: Path) -> None:
    nodes = [
        op("NonZero", "input_ids", "found"),
        op("Cast", "found", "out", to=TensorProto.FLOAT),
    ]
    plain = write(tmp_path / "plain.onnx", nodes, {}, output=[2, "found"])
    with pytest.raises(UnsupportedError, match="fixed shapes") as caught:
        fix_axes(Graph(plain), {"batch": 1, "sequence": 4})
    assert "NonZero" in caught.value.why


def test_a_model_without_a_mask_gets_no_fixed_lengths(tmp_path: Path) -> None:
    chained(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    for value in [*model.graph.input]:
        if value.name == "attention_mask":
            model.graph.input.remove(value)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = "input_ids" if name == "attention_mask" else name
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UnsupportedError, match="fixed lengths"):
        stage(tmp_path, model={"batch": 1, "sequence": 4})


def test_a_symbol_that_is_left_is_found(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="symbolic dimension"):
        check_fixed(chained(tmp_path / "plain.onnx"))
