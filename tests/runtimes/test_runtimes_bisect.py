"""Which layer of an artifact departs: spoiled layers among honest ones, NaN, graphs apart."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compile_desk import Desk
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgeward.errors import BundleError, EngineError, UsageError
from edgeward.runtimes.bundle.read import open_bundle
from edgeward.runtimes.proof import bisect_onnx
from edgeward.runtimes.proof.bisect_onnx import bisect, relative_error
from edgeward.runtimes.proof.bisect_words import (
    Bisection,
    departure_rows,
    departure_words,
    layer_of,
)

WIDTH, BLOCKS = 32, 4
SCOPES = "pkg.torch.onnx.name_scopes"
Array = NDArray[Any]
INPUTS = {"x": np.random.default_rng(7).standard_normal((3, 5, WIDTH)).astype(np.float32)}


def node(op: str, reads: Sequence[str], makes: str, module: str = "", **more: Any) -> Any:
    """A node as torch's exporter writes it; `module` goes into its metadata."""
    made = helper.make_node(op, list(reads), [makes], name=f"node_{makes}", **more)
    if module:
        parts = module.split(".")
        path = ["", *(".".join(parts[: at + 1]) for at in range(len(parts)))]
        made.metadata_props.add(key=SCOPES, value=str([*path, makes]))
    return made


def block_nodes(at: int) -> list[Any]:
    """A residual block: two matrices, a GELU-like branch, a sum, a norm."""
    before, layer = ("x" if at == 0 else f"norm_{at - 1}"), f"encoder.layer.{at}"
    return [
        node("MatMul", [before, f"up_{at}.w"], f"up_{at}", f"{layer}.up"),
        node("Sigmoid", [f"up_{at}"], f"gate_{at}", f"{layer}.act"),
        node("Mul", [f"up_{at}", f"gate_{at}"], f"act_{at}", f"{layer}.act"),
        node("MatMul", [f"act_{at}", f"down_{at}.w"], f"down_{at}", f"{layer}.down"),
        node("Add", [f"down_{at}", before], f"sum_{at}", layer),
        node("LayerNormalization", [f"sum_{at}", "scale"], f"norm_{at}", f"{layer}.norm"),
    ]


def weights(dtype: type[np.floating[Any]] = np.float32) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    names = [f"{kind}_{at}.w" for at in range(BLOCKS) for kind in ("up", "down")]
    made = {name: generator.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5 for name in names}
    return {name: value.astype(dtype) for name, value in {**made, "scale": np.ones(WIDTH)}.items()}


def write(path: Path, values: Mapping[str, Array], nodes: Sequence[Any] = (), **save: Any) -> Path:
    """Write the blocks, or other nodes from `x` to their last output, on these weights."""
    every = list(nodes) or [one for at in range(BLOCKS) for one in block_nodes(at)]
    kind = helper.np_dtype_to_tensor_dtype(next(iter(values.values())).dtype)
    graph = helper.make_graph(
        every,
        "blocks",
        [helper.make_tensor_value_info("x", kind, ["batch", "length", WIDTH])],
        [helper.make_tensor_value_info(every[-1].output[0], kind, None)],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path, **save)
    return path


def spoiled(name: str, by: float = 1.0) -> dict[str, Array]:
    """The weights, one of them with noise of `by` times its own spread."""
    values = weights()
    noise = np.random.default_rng(1).standard_normal(values[name].shape) * values[name].std() * by
    return {**values, name: (values[name] + noise).astype(np.float32)}


def quantised(tmp: Path, source: Path) -> Path:
    target = tmp / f"{source.stem}.int8.onnx"
    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
    return target


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return write(tmp_path / "float.onnx", weights())


def test_equal_graphs_have_no_departure(original: Path) -> None:
    found = bisect(original, original, INPUTS)
    assert (found.first, found.compared, found.end) == (None, 6 * BLOCKS, 0.0)
    assert "all 24 tensors compared are equal" in departure_words(found)
    assert not any(row["first"] for row in departure_rows(found))


@pytest.mark.parametrize("at", range(BLOCKS))
@pytest.mark.parametrize("kind", ["up", "down"])
def test_the_one_spoiled_layer_is_named(tmp_path: Path, original: Path, kind: str, at: int) -> None:
    artifact = write(tmp_path / "spoiled.onnx", spoiled(f"{kind}_{at}.w", by=0.05))
    first = bisect(original, artifact, INPUTS).first
    assert first is not None
    assert (first.tensor, first.op_type) == (f"{kind}_{at}", "MatMul")
    assert first.layer == f"encoder.layer.{at}.{kind}"
    assert first.shape == (3, 5, WIDTH)
    assert 0.02 < first.own_error < 0.1
    assert first.relative_error == pytest.approx(first.own_error, rel=1e-3)


def test_only_the_spoiled_layer_has_an_error_of_its_own(tmp_path: Path, original: Path) -> None:
    found = bisect(original, write(tmp_path / "s.onnx", spoiled("up_1.w")), INPUTS)
    assert [one.tensor for one in found.worst if one.own_error > 1e-4] == ["up_1"]
    assert sum(one.relative_error > 1e-2 for one in found.worst) > 2
    assert found.end > 1e-2


def test_honest_int8_departs_nowhere_by_itself(tmp_path: Path, original: Path) -> None:
    found = bisect(original, quantised(tmp_path, original), INPUTS)
    assert found.first is None
    assert found.compared == 6 * BLOCKS
    assert 1e-3 < found.end < 0.1
    assert "No layer departs by itself" in departure_words(found)


@pytest.mark.parametrize("name", ["up_0", "down_1", "up_3"])
def test_a_spoiled_layer_is_named_among_honest_int8_layers(
    tmp_path: Path, original: Path, name: str
) -> None:
    artifact = quantised(tmp_path, write(tmp_path / "s.onnx", spoiled(f"{name}.w")))
    found = bisect(original, artifact, INPUTS)
    assert found.first is not None
    assert (found.first.tensor, found.first.op_type) == (name, "MatMul")
    assert found.first.layer.endswith(name.replace("_0", "").rstrip("_0123"))
    others = [one for one in found.worst if one.tensor != name]
    assert max(one.own_error for one in others) < 0.1 < found.first.own_error


def test_a_small_fault_after_a_large_honest_drift_is_not_hidden(
    tmp_path: Path, original: Path
) -> None:
    """Half precision drifts by 1e-3 an operation; a fault of 3e-2 stands out behind it."""
    half = {k: v.astype(np.float16) for k, v in spoiled("down_3.w", by=0.03).items()}
    honest = write(tmp_path / "half.onnx", weights(np.float16))
    assert bisect(original, honest, INPUTS).first is None
    first = bisect(original, write(tmp_path / "bad.onnx", half), INPUTS).first
    assert first is not None
    assert first.tensor == "down_3"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_in_the_artifact_alone_departs(
    tmp_path: Path, original: Path, value: float
) -> None:
    values = weights()
    values["down_2.w"][0, 0] = value
    found = bisect(original, write(tmp_path / "nan.onnx", values), INPUTS, tolerance=1e9)
    assert found.first is not None
    assert (found.first.tensor, found.first.own_error) == ("down_2", math.inf)
    assert "not finite" in departure_words(found)


def test_what_is_not_finite_in_both_is_no_departure(tmp_path: Path) -> None:
    values = weights()
    values["down_2.w"][0, 0] = math.nan
    path = write(tmp_path / "nan.onnx", values)
    assert bisect(path, path, INPUTS).first is None


def test_weights_beside_the_graph(tmp_path: Path) -> None:
    for name, values in (("float", weights()), ("spoiled", spoiled("up_2.w"))):
        (tmp_path / name).mkdir()
        more = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 0}
        write(tmp_path / name / "model.onnx", values, **more)
    paths = [tmp_path / name / "model.onnx" for name in ("float", "spoiled")]
    first = bisect(*paths, INPUTS).first
    assert first is not None
    assert first.tensor == "up_2"
    assert sorted(p.name for p in paths[1].parent.iterdir()) == ["model.onnx", "weights.data"]


def test_a_chunk_of_one_tensor_finds_the_same(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = quantised(tmp_path, write(tmp_path / "s.onnx", spoiled("up_1.w")))
    whole = bisect(original, artifact, INPUTS)
    monkeypatch.setattr(bisect_onnx, "CHUNK_BYTES", 1)
    parts = bisect(original, artifact, INPUTS)
    assert parts.first is not None
    assert whole.first is not None
    assert (parts.first.tensor, parts.compared) == (whole.first.tensor, whole.compared)
    assert parts.first.own_error == pytest.approx(whole.first.own_error, rel=1e-3)


def test_tensors_of_other_names_are_matched_by_their_modules(
    tmp_path: Path, original: Path
) -> None:
    model = onnx.load(write(tmp_path / "s.onnx", spoiled("down_1.w")))
    for one in model.graph.node:
        for names in (one.input, one.output):
            names[:] = [n if n in ("x", "scale") or ".w" in n else f"val_{n}" for n in names]
    model.graph.output[0].name = f"val_{model.graph.output[0].name}"
    onnx.save(model, tmp_path / "renamed.onnx")
    first = bisect(original, tmp_path / "renamed.onnx", INPUTS).first
    assert first is not None
    assert (first.tensor, first.layer) == ("val_down_1", "encoder.layer.1.down")


def test_one_number_for_two_modules_is_no_match(tmp_path: Path) -> None:
    """Exporters count: `val_1` of another export may be another layer's."""
    values = {name: weights()[name] for name in ("up_0.w", "up_1.w")}
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path, (one, other) in zip(paths, [("v1", "v2"), ("v2", "v1")], strict=True):
        nodes = [
            node("MatMul", ["x", "up_0.w"], one, "first"),
            node("MatMul", ["x", "up_1.w"], other, "second"),
            node("Add", [one, other], "y", "sum"),
        ]
        write(path, values, nodes)
    found = bisect(*paths, INPUTS)
    assert (found.first, found.compared) == (None, 1)


def test_an_error_that_nothing_shows_is_not_named(tmp_path: Path) -> None:
    values = {"up_0.w": weights()["up_0.w"], "zero": np.zeros(1, np.float32)}
    nodes = [
        node("MatMul", ["x", "up_0.w"], "lost"),
        node("Mul", ["lost", "zero"], "masked"),
        node("Add", ["x", "masked"], "y"),
    ]
    first = write(tmp_path / "a.onnx", values, nodes)
    second = write(tmp_path / "b.onnx", {**values, "up_0.w": spoiled("up_0.w")["up_0.w"]}, nodes)
    found = bisect(first, second, INPUTS)
    assert found.first is None
    assert found.worst[0].tensor == "lost"
    assert found.worst[0].own_error > 0.1


def test_a_value_read_inside_a_branch(tmp_path: Path) -> None:
    kind = onnx.TensorProto.FLOAT
    made = [helper.make_tensor_value_info(name, kind, None) for name in ("then", "else")]
    branches = [
        helper.make_graph([node(op, ["up"], name)], name, [], [info])
        for op, name, info in zip(["Relu", "Neg"], ["then", "else"], made, strict=True)
    ]
    nodes = [
        node("MatMul", ["x", "up_0.w"], "up"),
        helper.make_node("Constant", [], ["true"], value=numpy_helper.from_array(np.array(True))),
        node("If", ["true"], "y", then_branch=branches[0], else_branch=branches[1]),
    ]
    paths = [
        write(tmp_path / f"{at}.onnx", {"up_0.w": values["up_0.w"]}, nodes)
        for at, values in enumerate([weights(), spoiled("up_0.w")])
    ]
    found = bisect(*paths, INPUTS)
    assert found.first is not None
    assert (found.first.tensor, found.first.layer, found.compared) == ("up", "node_up", 2)
    assert [one.own_error for one in found.worst if one.tensor == "y"] == [0.0]


def test_another_shape_departs(tmp_path: Path) -> None:
    values = {"up_0.w": weights()["up_0.w"]}
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path, order in zip(paths, ([0, 2, 1], [0, 1, 2]), strict=True):
        nodes = [
            node("MatMul", ["x", "up_0.w"], "up"),
            node("Transpose", ["up"], "turned", perm=order),
            node("Relu", ["turned"], "y"),
        ]
        write(path, values, nodes)
    first = bisect(*paths, INPUTS).first
    assert first is not None
    assert (first.tensor, first.own_error) == ("turned", math.inf)


def test_other_inputs_are_refused(tmp_path: Path, original: Path) -> None:
    model = onnx.load(original)
    model.graph.input[0].name = "pixels"
    for one in model.graph.node:
        one.input[:] = ["pixels" if name == "x" else name for name in one.input]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UsageError, match=r"other.onnx was not made of float.onnx") as caught:
        bisect(original, tmp_path / "other.onnx", INPUTS)
    assert caught.value.why == "its inputs are pixels; the other's are x"


def test_inputs_that_do_not_fit_are_refused(tmp_path: Path, original: Path) -> None:
    with pytest.raises(UsageError, match="no array is given for x"):
        bisect(original, original, {"y": INPUTS["x"]})
    with pytest.raises(UsageError, match="cannot run on these inputs"):
        bisect(original, original, {"x": INPUTS["x"][..., :3]})
    nodes = [node("Relu", ["x"], "elsewhere")]
    stranger = write(tmp_path / "stranger.onnx", weights(), nodes)
    with pytest.raises(UsageError, match=r"No tensor of stranger\.onnx"):
        bisect(original, stranger, INPUTS)


def test_files_that_are_no_graphs_are_refused(tmp_path: Path, original: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        bisect(original, tmp_path / "absent.onnx", INPUTS)
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(BundleError, match="is not an ONNX graph"):
        bisect(original, tmp_path / "text.onnx", INPUTS)


def test_without_onnx_the_error_tells_what_to_install(
    original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EngineError) as caught:
        bisect(original, original, INPUTS)
    assert caught.value.next == "pip install onnx"


@given(st.floats(1e-3, 1e3), st.floats(0, 2))
def test_the_relative_error_does_not_depend_on_scale(scale: float, by: float) -> None:
    value = INPUTS["x"].astype(np.float64) * scale
    assert relative_error(value, value * (1 + by)) == pytest.approx(by, abs=1e-9)


def test_masks_count_as_equal_in_any_precision() -> None:
    lowest = np.float32(np.finfo(np.float32).min)
    scores = np.array([1.0, 2.0, lowest, -np.inf], np.float32)
    half = np.array([1.0, 2.0, -np.inf, -65504], np.float16)
    assert relative_error(scores, half) == 0
    assert relative_error(scores, np.array([1, 2, 0, 0], np.float32)) == math.inf
    assert relative_error(np.float32([7e4, 1]), np.float16([np.inf, 1])) == math.inf
    assert relative_error(np.float32([np.nan, 1]), np.float32([5, 1])) == 0
    assert relative_error(np.zeros((2, 3)), np.zeros((3, 2))) == math.inf


def test_layers_are_named_by_the_old_exporters_paths_too() -> None:
    named = helper.make_node("MatMul", ["x"], ["y"], name="/encoder/layer.3/output/dense/MatMul")
    assert layer_of(named) == "encoder.layer.3.output.dense"
    assert layer_of(helper.make_node("MatMul", ["x"], ["y"], name="MatMul_7")) == ""
    named.metadata_props.add(key=SCOPES, value="[" * 9000)
    assert layer_of(named) == "encoder.layer.3.output.dense"


def test_the_words_and_the_rows_name_the_layer(tmp_path: Path, original: Path) -> None:
    found = bisect(original, write(tmp_path / "s.onnx", spoiled("up_2.w")), INPUTS)
    assert departure_words(found).startswith(
        "The first layer that departs is encoder.layer.2.up (MatMul, tensor up_2): it adds a "
    )
    rows = departure_rows(found)
    assert [row["first"] for row in rows] == [True, *[False] * (len(rows) - 1)]
    assert rows[0]["layer"] == "encoder.layer.2.up"
    assert json.dumps(rows)
    elsewhere = Bisection(None, found.worst, found.compared, found.end)
    assert not any(row["first"] for row in departure_rows(elsewhere))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_spoiled_layer_of_a_real_int8_model_is_named(tmp_path: Path) -> None:
    desk = Desk(tmp_path, fresh=False)
    done = desk.run("--report", "json", precisions="fp32,int8-dynamic")
    assert done.returncode == 0, done.stderr
    original, artifact = (open_bundle(row["path"]).entry for row in json.loads(done.stdout))
    ids = np.random.default_rng(0).integers(1000, 20000, (2, 24))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}
    honest = bisect(original, artifact, inputs)
    assert (honest.first, honest.compared > 100) == (None, True)
    model = onnx.load(artifact)
    layer = "encoder.layer.3.attention.self.query"
    named = {one.output[0]: one for one in onnx.load(original).graph.node if layer_of(one) == layer}
    weight = next(f"{one.input[1]}_int8" for one in named.values() if one.op_type == "Gemm")
    tensor = next(t for t in model.graph.initializer if t.name == weight)
    values = np.random.default_rng(0).permutation(numpy_helper.to_array(tensor))
    tensor.CopyFrom(numpy_helper.from_array(values, weight))
    onnx.save(model, tmp_path / "spoiled.onnx")
    found = bisect(original, tmp_path / "spoiled.onnx", inputs)
    assert found.first is not None
    assert (found.first.layer, found.first.op_type) == (layer, "Gemm")
    assert found.first.own_error > 0.5
