"""What TensorRT would refuse of a graph, told before a device sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.compiler.formats.onnx_passes.graph import Graph
from edgeward.compiler.formats.onnx_passes.half import to_float16
from edgeward.compiler.formats.onnx_passes.integers import replace_integers
from edgeward.compiler.formats.onnx_passes.static import to_static
from edgeward.compiler.formats.onnx_passes.tensorrt import problems_with
from edgeward.compiler.formats.onnx_passes.tensorrt_operators import OPERATORS

WIDTH = 64
FLOAT, HALF, INT64, INT8 = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT8,
)  # fmt: skip


def told(
    folder: Path,
    nodes: Sequence[Any],
    *,
    held: dict[str, Any] | None = None,
    kind: int = FLOAT,
    made: int = FLOAT,
    opset: int = 20,
) -> str:
    """Return the problems of a graph from `x` to `y`, one a line."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", made, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (held or {}).items()],
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)
    return "\n".join(map(str, problems_with(Graph(path))))


def node(kind: str, inputs: Sequence[str], output: str = "y", **given: Any) -> Any:
    name = f"the_{kind}" if output == "y" else f"{kind}_{output}"
    return helper.make_node(kind, inputs, [output], name=name, **given)


@pytest.mark.parametrize(
    ("nodes", "held", "words"),
    [
        ([node("Tanh", ["x"])], {}, ""),
        ([node("FusedMatMul", ["x", "x"], domain="com.microsoft")], {}, "the_FusedMatMul: op"),
        ([node("DynamicQuantizeLinear", ["x"])], {}, "does not know this operator"),
        ([node("STFT", ["x", "x"])], {}, "does not know this operator"),
        ([node("Pad", ["x", "p", "", "a"])], {"p": [0, 1], "a": [1]}, "axes of a Pad"),
        ([node("TopK", ["x", "k"], sorted=0)], {"k": [1]}, "sorted 0 is not taken"),
        ([node("Resize", ["x", "", "s"], mode="cubic")], {"s": np.ones(2, np.float32)}, "cubic"),
        ([node("Einsum", ["x"], equation="...i->...")], {}, "ellipsis"),
        ([node("Shape", ["x"], "a"), node("Unsqueeze", ["x", "a"])], {}, "must be a constant"),
        ([node("Cast", ["x"], to=TensorProto.DOUBLE)], {}, "the output y"),
    ],
)  # fmt: skip
def test_operators_and_restrictions(
    tmp_path: Path, nodes: list[Any], held: dict[str, Any], words: str
) -> None:
    made = TensorProto.DOUBLE if "output" in words else FLOAT
    found = told(tmp_path, nodes, held=held, made=made)
    assert words in found if words else not found


def test_a_set_of_operators_that_is_too_new(tmp_path: Path) -> None:
    assert "of set 21" in told(tmp_path, [node("Tanh", ["x"])], opset=21)


def test_a_subgraph_is_looked_into(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Det", ["x"], ["d"], name="inner")],
        "branch",
        [],
        [helper.make_tensor_value_info("d", FLOAT, None)],
    )
    branches = {"then_branch": inner, "else_branch": inner}
    found = told(tmp_path, [node("If", ["c"], **branches)], held={"c": np.array(True)})
    assert "Det inner" in found


def test_types_meet_only_by_a_cast(tmp_path: Path) -> None:
    half = np.ones(WIDTH, np.float16)
    assert "float and float16 meet" in told(tmp_path, [node("Mul", ["x", "w"])], held={"w": half})
    cast = [node("Cast", ["x"], "h", to=HALF), node("Mul", ["h", "w"])]
    assert not told(tmp_path, cast, held={"w": half}, made=HALF)


def test_types_that_an_operator_does_not_take(tmp_path: Path) -> None:
    found = told(
        tmp_path, [node("CumSum", ["x", "a"])], held={"a": np.array(1)}, kind=INT64, made=INT64
    )
    assert "CumSum the_CumSum: it does not take int64" in found
    assert not told(tmp_path, [node("Add", ["x", "x"])], kind=INT64, made=INT64)


@pytest.mark.parametrize(
    ("zero", "words"),
    [
        (np.int8(0), ""),
        (np.int8(3), "zero point is not 0"),
        (np.uint8(0), "integers are uint8"),
        (None, "integers are of no known type"),
    ],
)
def test_quantised_values_are_symmetric_int8(tmp_path: Path, zero: Any, words: str) -> None:
    held = {"s": np.float32(0.1), **({} if zero is None else {"z": zero})}
    more = list(held)
    nodes = [node("QuantizeLinear", ["x", *more], "q"), node("DequantizeLinear", ["q", *more])]
    found = told(tmp_path, nodes, held=held)
    assert words in found if words else not found


def test_int8_that_something_else_reads(tmp_path: Path) -> None:
    held = {"s": np.float32(0.1), "z": np.int8(0)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], "q"),
        node("Transpose", ["q"], "t"),
        node("DequantizeLinear", ["t", "s", "z"]),
    ]
    assert "Transpose Transpose_t: it reads int8" in told(tmp_path, nodes, held=held)


def layers(folder: Path) -> Path:
    """An embedding, a norm and two products."""
    drawn = np.random.default_rng(0)
    held = {
        "table": drawn.standard_normal((32, WIDTH)).astype(np.float32),
        "gamma": np.ones(WIDTH, np.float32),
        "first": drawn.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 8,
        "second": drawn.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 8,
    }
    nodes = [
        node("Gather", ["table", "ids"], "rows"),
        node("LayerNormalization", ["rows", "gamma"], "normed", axis=-1),
        node("MatMul", ["normed", "first"], "wide"),
        node("Gelu", ["wide"], "bent"),
        node("MatMul", ["bent", "second"], "y"),
    ]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("ids", INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", "sequence", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    path = folder / "float.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def samples() -> Iterator[dict[str, Any]]:
    for seed in range(4):
        yield {"ids": np.random.default_rng(seed).integers(0, 32, (2, 9))}


def test_half_floats_are_strongly_typed(tmp_path: Path) -> None:
    source, target = layers(tmp_path), tmp_path / "half.onnx"
    to_float16(source, target)
    assert problems_with(Graph(source)) == problems_with(Graph(target)) == []
    types = {t.data_type for t in onnx.load(target).graph.initializer}
    assert HALF in types


def test_static_int8_is_taken_where_it_is_made_for_tensorrt(tmp_path: Path) -> None:
    source, target = layers(tmp_path), tmp_path / "static.onnx"
    to_static(source, target, samples(), symmetric=True, tables=False)
    assert problems_with(Graph(target)) == []
    assert INT8 in {t.data_type for t in onnx.load(target).graph.initializer}
    to_static(source, target, samples())
    assert {p.where.split()[0] for p in problems_with(Graph(target))} >= {"QuantizeLinear"}


def test_integers_in_operators_for_floats_are_said_otherwise(tmp_path: Path) -> None:
    held = {"a": np.array(1), "low": np.array(2), "high": np.array(50)}
    nodes = [
        node("CumSum", ["x", "a"], "sums", reverse=1),
        node("Clip", ["sums", "low", "high"], "both"),
        node("Clip", ["both", "", "high"], "one"),
        node("Clip", ["one", "low"]),
    ]
    assert "does not take int64" in told(tmp_path, nodes, held=held, kind=INT64, made=INT64)
    source, target = tmp_path / "model.onnx", tmp_path / "said.onnx"
    graph = Graph(source)
    assert replace_integers(graph) == 4
    assert problems_with(graph) == []
    graph.save(target)
    given = np.random.default_rng(0).integers(-3, 9, (2, WIDTH))
    exact, said = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
            None, {"x": given}
        )
        for path in (source, target)
    )
    np.testing.assert_array_equal(exact[0], said[0])


def test_every_operator_of_the_table_is_one_of_onnx() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    outside = {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
    assert set(OPERATORS) - outside <= known
    assert len(OPERATORS) > 130
