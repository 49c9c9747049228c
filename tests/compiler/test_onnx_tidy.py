"""Graphs said shorter: the same values from fewer nodes, and what is not recognised stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeward.compiler.formats.onnx_passes.graph import MICROSOFT
from edgeward.compiler.formats.onnx_passes.tidy import tidy

HEADS, WIDTH = 4, 16
HIDDEN = HEADS * WIDTH
LEAST = float(np.finfo(np.float32).min)
Floats = NDArray[np.float32]


def drawn(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) / shape[0] ** 0.5


class Sketch:
    """A graph that is written node by node."""

    def __init__(self, inputs: dict[str, tuple[int, list[Any]]], output: list[Any]) -> None:
        self.nodes: list[Any] = []
        self.held: dict[str, Any] = {}
        self._shapes: dict[str, list[Any]] = {}
        self._inputs, self._output = inputs, output

    def op(self, kind: str, *inputs: Any, **given: Any) -> str:
        """Add a node; arrays become constants."""
        names = []
        for one in inputs:
            if not isinstance(one, str):
                name = f"c{len(self.held)}"
                self.held[name] = np.asarray(one)
                one = name
            names.append(one)
        out = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [out], **given))
        return out

    def of_shape(self, value: str, *shape: Any) -> str:
        """Say what the exporter knows of a value's shape."""
        self._shapes[value] = list(shape)
        return value

    def layer(self, value: str, rows: int, columns: int, seed: int) -> str:
        """A product and its bias."""
        product = self.op("MatMul", value, drawn(rows, columns, seed=seed))
        return self.op("Add", drawn(columns, seed=seed + 1), product)

    def heads(self, value: str) -> str:
        """[B, S, H * D] as [B, H, S, D]."""
        cut = self.op("Reshape", value, np.array([0, -1, HEADS, WIDTH]))
        self.of_shape(cut, "batch", "sequence", HEADS, WIDTH)
        turned = self.op("Transpose", cut, perm=[0, 2, 1, 3])
        return self.of_shape(turned, "batch", HEADS, "sequence", WIDTH)

    def write(self, path: Path, out: str) -> Path:
        """Write it, its shapes inferred."""
        self.nodes.append(helper.make_node("Identity", [out], ["out"]))
        graph = helper.make_graph(
            self.nodes,
            "sketch",
            [helper.make_tensor_value_info(n, k, s) for n, (k, s) in self._inputs.items()],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, self._output)],
            [numpy_helper.from_array(value, name) for name, value in self.held.items()],
            value_info=[
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in self._shapes.items()
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)
        return path


def texts() -> Sketch:
    axes = ["batch", "sequence"]
    inputs = {
        "states": (TensorProto.FLOAT, [*axes, HIDDEN]),
        "seen": (TensorProto.BOOL, ["batch", 1, 1, "sequence"]),
    }
    return Sketch(inputs, [*axes, HIDDEN])


def block(folder: Path, *, masked: bool, per_query: bool = False) -> Path:
    """Attention as exporters write it, a residual with its norm, and two layers after it."""
    sketch = texts()
    query, key, value = (
        sketch.heads(sketch.layer("states", HIDDEN, HIDDEN, seed)) for seed in (1, 3, 5)
    )
    scaled = sketch.op("Mul", query, np.float32(WIDTH**-0.5))
    turned = sketch.op("Transpose", key, perm=[0, 1, 3, 2])
    scores = sketch.op("MatMul", scaled, turned)
    if masked:
        hidden = sketch.op("Cast", sketch.op("Not", "seen"), to=TensorProto.FLOAT)
        mask = sketch.op("Mul", hidden, np.float32(LEAST))
        if per_query:
            mask = sketch.op("Add", mask, drawn(1, HEADS, 1, 1, seed=9))
        scores = sketch.op("Add", scores, mask)
    mixed = sketch.op("MatMul", sketch.op("Softmax", scores, axis=-1), value)
    back = sketch.op("Transpose", mixed, perm=[0, 2, 1, 3])
    joined = sketch.op("Reshape", back, np.array([0, -1, HIDDEN]))
    sketch.of_shape(joined, "batch", "sequence", HIDDEN)
    first = sketch.op(
        "Add", sketch.layer(joined, HIDDEN, HIDDEN, 7), sketch.layer("states", HIDDEN, HIDDEN, 21)
    )
    normed = sketch.op(
        "LayerNormalization", first, np.ones(HIDDEN, np.float32), drawn(HIDDEN, seed=11), axis=-1
    )
    inner = sketch.op("Gelu", sketch.layer(normed, HIDDEN, 2 * HIDDEN, 13))
    last = sketch.op("Add", sketch.layer(inner, 2 * HIDDEN, HIDDEN, 15), normed)
    return sketch.write(folder / "plain.onnx", last)


def run(path: Path, inputs: dict[str, Any]) -> Floats:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def inputs(rows: int, length: int, seed: int) -> dict[str, Any]:
    states = drawn(rows, length, HIDDEN, seed=seed) * 3
    seen = np.ones((rows, 1, 1, length), bool)
    seen[-1, ..., length // 2 + 1 :] = False
    return {"states": states, "seen": seen}


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("kind", ["masked", "plain", "odd"])
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.integers(1, 3), length=st.integers(1, 9), seed=st.integers(0, 99))
def test_values_stay(
    tmp_path: Path, kind: str, fuse: bool, rows: int, length: int, seed: int
) -> None:
    source = tmp_path / "plain.onnx"
    if not source.is_file():
        block(tmp_path, masked=kind != "plain", per_query=kind == "odd")
        tidy(source, tmp_path / "tidy.onnx", fuse=fuse)
    given_ = inputs(rows, length, seed)
    wanted, found = run(source, given_), run(tmp_path / "tidy.onnx", given_)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 2e-5 * wanted.std()


def test_layers_run_on_rows_with_their_bias(tmp_path: Path) -> None:
    source = block(tmp_path, masked=True)
    done = tidy(source, tmp_path / "tidy.onnx")
    assert (done["layers"], done["attentions"], done["fused_attentions"]) == (7, 1, 0)
    found = operators(tmp_path / "tidy.onnx")
    assert found["Gemm"] == 7
    assert found["MatMul"] == 2
    assert found["Sum"] == 1
    assert found["Mul"] == 1
    onnx.checker.check_model(str(tmp_path / "tidy.onnx"), full_check=True)
    apart = tidy(source, tmp_path / "apart.onnx", rows=False)
    assert apart["layers"] == 0
    assert operators(tmp_path / "apart.onnx")["Gemm"] == 0
    tidy(source, tmp_path / "added.onnx", sums=False)
    assert operators(tmp_path / "added.onnx")["Sum"] == 0


def test_attention_without_a_mask_is_fused_where_it_may_be(tmp_path: Path) -> None:
    source = block(tmp_path, masked=False)
    assert tidy(source, tmp_path / "plain2.onnx")["fused_attentions"] == 0
    done = tidy(source, tmp_path / "fused.onnx", fuse=True)
    assert done["fused_attentions"] == 1
    found = operators(tmp_path / "fused.onnx")
    assert found["MultiHeadAttention"] == 1
    assert found["Softmax"] == 0
    assert MICROSOFT in {one.domain for one in onnx.load(tmp_path / "fused.onnx").opset_import}
    masked = block(tmp_path, masked=True)
    assert tidy(masked, tmp_path / "masked.onnx", fuse=True)["fused_attentions"] == 0


def test_a_factor_goes_into_the_layer_before_it(tmp_path: Path) -> None:
    sketch = texts()
    scaled = sketch.op("Mul", sketch.layer("states", HIDDEN, HIDDEN, 1), drawn(HIDDEN, seed=4))
    source = sketch.write(tmp_path / "plain.onnx", sketch.op("Add", scaled, "states"))
    done = tidy(source, tmp_path / "tidy.onnx")
    assert done["factors"] == 1
    assert operators(tmp_path / "tidy.onnx")["Mul"] == 0
    given_ = inputs(2, 5, 0)
    wanted = run(source, given_)
    assert np.abs(run(tmp_path / "tidy.onnx", given_) - wanted).max() < 1e-5 * wanted.std()


def test_a_layer_that_two_read_keeps_its_weights(tmp_path: Path) -> None:
    sketch = texts()
    layer = sketch.layer("states", HIDDEN, HIDDEN, 1)
    scaled = sketch.op("Mul", layer, np.float32(3))
    source = sketch.write(tmp_path / "plain.onnx", sketch.op("Add", scaled, layer))
    assert tidy(source, tmp_path / "tidy.onnx")["factors"] == 0
    given_ = inputs(2, 5, 0)
    assert np.allclose(run(tmp_path / "tidy.onnx", given_), run(source, given_), atol=1e-5)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(4, 4), (7, 5), (11, 16)])
def test_a_constant_table_is_resized_by_products(
    tmp_path: Path, mode: str, size: tuple[int, int]
) -> None:
    sketch = Sketch({"size": (TensorProto.INT64, [2])}, [1, 24, "high", "wide"])
    sizes = sketch.op("Concat", np.array([1, 24]), "size", axis=0)
    table = drawn(1, 24, 6, 8) * 5
    resized = sketch.op("Resize", table, "", "", sizes, mode=mode, cubic_coeff_a=-0.75)
    source = sketch.write(tmp_path / "plain.onnx", resized)
    assert tidy(source, tmp_path / "tidy.onnx")["resized"] == 1
    given_ = {"size": np.array(size)}
    wanted, found = run(source, given_), run(tmp_path / "tidy.onnx", given_)
    assert found.shape == wanted.shape == (1, 24, *size)
    assert np.abs(found - wanted).max() < 1e-5


def test_what_is_not_recognised_stays_as_it_is(tmp_path: Path) -> None:
    sketch = Sketch({"value": (TensorProto.FLOAT, ["n", 8])}, ["n", 8])
    bent = sketch.op("Tanh", sketch.op("MatMul", "value", drawn(8, 8)))
    source = sketch.write(tmp_path / "plain.onnx", sketch.op("Softmax", bent, axis=-1))
    done = tidy(source, tmp_path / "tidy.onnx", fuse=True)
    assert (done["layers"], done["attentions"], done["nodes"]) == (0, 0, done["nodes_before"])
    given_ = {"value": drawn(3, 8, seed=5)}
    assert np.array_equal(run(tmp_path / "tidy.onnx", given_), run(source, given_))


def test_a_deep_graph_is_read_once(tmp_path: Path) -> None:
    """Sixty sums of a value with itself: whoever follows both sides never ends."""
    sketch = Sketch({"value": (TensorProto.FLOAT, [1, 2, 4, 4])}, [1, 2, 8, 8])
    summed = "value"
    for _ in range(60):
        summed = sketch.op("Add", summed, summed)
    sizes = sketch.op("Concat", np.array([1, 2]), np.array([8, 8]), axis=0)
    resized = sketch.op("Resize", summed, "", "", sizes, mode="linear")
    source = sketch.write(tmp_path / "plain.onnx", resized)
    assert tidy(source, tmp_path / "tidy.onnx", fuse=True)["resized"] == 0
