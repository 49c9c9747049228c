"""Weights rounded in blocks: as near as the bits allow, stored once, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeward.compiler.formats.onnx_passes.blocks import to_blocks
from edgeward.compiler.formats.onnx_passes.rounding import round_blocks
from edgeward.errors import UnsupportedError, UsageError

VOCABULARY, WIDTH = 300, 64
Floats = NDArray[np.float32]


def weights(rows: int, columns: int, seed: int) -> Floats:
    drawn = np.random.default_rng(seed).standard_normal((rows, columns))
    return (drawn / columns**0.5).astype(np.float32)


def write(folder: Path, *, tied: bool = True, gemm: bool = False) -> Path:
    """An embedding, two products, and a head that may be the embedding again."""
    table = weights(VOCABULARY, WIDTH, 0) * WIDTH**0.5
    held: dict[str, NDArray[Any]] = {
        "table": table,
        "inner": weights(WIDTH, WIDTH * 4, 2),
        "back": weights(WIDTH * 4, WIDTH, 3),
        "head": table.T if tied else weights(WIDTH, VOCABULARY, 1),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "inner"], ["wide"], name="inner_product"),
        helper.make_node("Tanh", ["wide"], ["bent"]),
        helper.make_node("MatMul", ["bent", "back"], ["hidden"]),
    ]
    if gemm:
        held |= {"flat": np.array([-1, WIDTH]), "bias": weights(1, VOCABULARY, 4)[0]}
        nodes.append(helper.make_node("Reshape", ["hidden", "flat"], ["rows"]))
        nodes.append(helper.make_node("Gemm", ["rows", "head", "bias"], ["logits"]))
    else:
        nodes.append(helper.make_node("MatMul", ["hidden", "head"], ["logits"]))
    shape = [None, VOCABULARY] if gemm else [None, None, VOCABULARY]
    graph = helper.make_graph(
        nodes,
        "blocks",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in held.items()],
    )
    path = folder / "float.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def run(path: Path) -> Floats:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ids = np.arange(24).reshape(2, 12) * 7 % VOCABULARY
    return np.asarray(session.run(None, {"ids": ids})[0])


def cosine(first: Floats, second: Floats) -> float:
    a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(("bits", "least"), [(8, 0.999), (4, 0.98)])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("gemm", [True, False])
def test_it_runs_and_stays_near(
    tmp_path: Path, bits: int, least: float, symmetric: bool, gemm: bool
) -> None:
    source, target = write(tmp_path, tied=False, gemm=gemm), tmp_path / "small.onnx"
    done = to_blocks(source, target, bits=bits, symmetric=symmetric)
    assert least < cosine(run(source), run(target)) < 1
    assert (done["products"], done["tables"], done["tied"]) == (3, 1, 0)
    bytes_each = bits / 8 + 4 / 32 + (0 if symmetric else bits / 8 / 32)
    assert target.stat().st_size < source.stat().st_size * bytes_each / 4 + 4096


def test_a_head_tied_to_its_embedding_is_stored_once(tmp_path: Path) -> None:
    source, target = write(tmp_path), tmp_path / "small.onnx"
    done = to_blocks(source, target, bits=8)
    assert done["tied"] == 1
    assert cosine(run(source), run(target)) > 0.999
    held = [tuple(i.dims) for i in onnx.load(target).graph.initializer]
    assert sum(np.prod(dims) >= VOCABULARY * WIDTH for dims in held) == 1


def test_what_is_to_be_kept_is_kept(tmp_path: Path) -> None:
    source, target = write(tmp_path, tied=False), tmp_path / "small.onnx"
    done = to_blocks(source, target, bits=4, keep=["inner_product", "table"])
    assert (done["products"], done["tables"]) == (2, 0)
    assert {"inner", "table"} <= {i.name for i in onnx.load(target).graph.initializer}


def test_a_graph_without_matrices_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Tanh", ["x"], ["y"])],
        "nothing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "float.onnx")
    with pytest.raises(UnsupportedError, match="nothing to round"):
        to_blocks(tmp_path / "float.onnx", tmp_path / "small.onnx", bits=8)


@pytest.mark.parametrize("sizes", [{"bits": 3}, {"bits": 4, "block_size": 24}, {"bits": 16}])
def test_sizes_that_no_operator_has_are_refused(tmp_path: Path, sizes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        to_blocks(write(tmp_path), tmp_path / "small.onnx", **sizes)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 100),
    st.sampled_from([4, 8]),
    st.booleans(),
    st.integers(0, 99),
)
def test_rounding_loses_at_most_half_a_step_on_average(
    rows: int, columns: int, bits: int, symmetric: bool, seed: int
) -> None:
    matrix = weights(rows, columns, seed)
    rounded = round_blocks(matrix, bits, 32, symmetric)
    restored = rounded.restored(columns)
    step = np.abs(matrix).max() * 2 / (2**bits - 2)
    assert restored.shape == matrix.shape
    assert np.sqrt(np.mean((restored - matrix) ** 2)) <= step
    assert rounded.codes.max() < 2**bits


def test_the_search_beats_the_largest_value_alone() -> None:
    matrix = weights(64, 256, 5)
    searched = round_blocks(matrix, 4, 32, symmetric=True).restored(256)
    peak = np.abs(matrix.reshape(64, -1, 32)).max(-1, keepdims=True) / 7
    plain = (np.rint(matrix.reshape(64, -1, 32) / peak) * peak).reshape(64, 256)
    assert np.square(searched - matrix).sum() < 0.9 * np.square(plain - matrix).sum()
