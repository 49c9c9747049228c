"""4 bits on calibration data: errors made good by later columns, and which weights hurt most."""

from __future__ import annotations

from collections.abc import Iterator
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

from edgeward.compiler.formats.onnx_passes import compensate, sensitivity
from edgeward.compiler.formats.onnx_passes.blocks import Plan, fits, to_blocks, write_blocks
from edgeward.compiler.formats.onnx_passes.compensate import (
    compensated,
    products_of,
    round_on_samples,
    tables_of,
)
from edgeward.compiler.formats.onnx_passes.graph import Graph
from edgeward.compiler.formats.onnx_passes.rounding import round_blocks
from edgeward.compiler.formats.onnx_passes.sensitivity import (
    MOST_GROUPS,
    Group,
    layers_of,
    measure,
    most_harmful,
)
from edgeward.errors import UsageError

WIDTH, VOCABULARY = 128, 200
Floats = NDArray[np.float32]


def correlated(rows: int, width: int, seed: int) -> Floats:
    """Values that few directions make most of, as activations are."""
    drawn = np.random.default_rng(seed)
    directions = np.random.default_rng(0).standard_normal((8, width))
    mixed = drawn.standard_normal((rows, 8)) @ directions
    return (mixed + 0.1 * drawn.standard_normal((rows, width))).astype(np.float32)


def weights(rows: int, columns: int, seed: int) -> Floats:
    drawn = np.random.default_rng(seed).standard_normal((rows, columns))
    return (drawn / columns**0.5).astype(np.float32)


def write(folder: Path, *, loud: bool = False) -> Path:
    """Two products of one shape beside another; `loud` makes the second one count for most."""
    held = {
        "first": weights(WIDTH, WIDTH, 1),
        "second": weights(WIDTH, WIDTH, 2),
        "head": weights(WIDTH, VOCABULARY, 3),
        "scale": np.array(30 if loud else 1, np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["wide"], name="/first/MatMul"),
        helper.make_node("MatMul", ["x", "second"], ["other"], name="/second/MatMul"),
        helper.make_node("Mul", ["other", "scale"], ["louder"]),
        helper.make_node("Add", ["wide", "louder"], ["sum"]),
        helper.make_node("MatMul", ["sum", "head"], ["y"], name="/head/MatMul"),
    ]
    graph = helper.make_graph(
        nodes,
        "compensate",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", VOCABULARY])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    path = folder / "float.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def samples() -> Iterator[dict[str, Any]]:
    for seed in range(4):
        yield {"x": correlated(64, WIDTH, seed + 1)}


def error(source: Path, target: Path) -> float:
    given = {"x": correlated(64, WIDTH, 99)}
    exact, found = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, given)
        for path in (source, target)
    )
    return float(np.linalg.norm(found[0] - exact[0]) / np.linalg.norm(exact[0]))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("width", [WIDTH, 100])
def test_what_products_give_changes_less(width: int, symmetric: bool) -> None:
    matrix, seen = weights(48, width, 5), correlated(400, width, 1)
    later = correlated(400, width, 2)
    plain = round_blocks(matrix, 4, 32, symmetric).restored(width)
    better = compensated(matrix, seen.T @ seen, 4, 32, symmetric).restored(width)

    def lost(restored: Floats) -> float:
        return float(np.square(later @ (restored - matrix).T).sum())

    assert lost(better) < 0.4 * lost(plain)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 70), st.integers(0, 3), st.integers(0, 9))
def test_any_moments_give_codes_of_the_bits(
    rows: int, width: int, samples_seen: int, seed: int
) -> None:
    """Few samples or none: what nothing is known of is rounded as near as before."""
    matrix, seen = weights(rows, width, seed), correlated(samples_seen, width, seed)
    found = compensated(matrix, seen.T @ seen, 4, 32)
    assert found.codes.max() < 16
    assert np.isfinite(found.scales).all()
    assert found.restored(width).shape == matrix.shape
    if not samples_seen:
        assert np.abs(found.restored(width) - matrix).max() <= np.abs(matrix).max() / 6


def test_a_graph_rounded_on_samples_is_nearer_at_the_same_size(tmp_path: Path) -> None:
    source = write(tmp_path)
    plain, better = tmp_path / "plain.onnx", tmp_path / "better.onnx"
    to_blocks(source, plain, bits=4)
    done = to_blocks(source, better, bits=4, samples=samples)
    assert done["compensated"] == 3
    assert plain.stat().st_size == better.stat().st_size
    assert error(source, better) < 0.6 * error(source, plain)
    again = tmp_path / "again.onnx"
    to_blocks(source, again, bits=4, samples=samples)
    assert again.read_bytes() == better.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["float.onnx", "plain.onnx", "better.onnx", "again.onnx"]
    )


def test_a_small_budget_takes_more_passes_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, passes = Graph(write(tmp_path)), []

    def counted() -> Iterator[dict[str, Any]]:
        passes.append(1)
        yield from samples()

    def rounded() -> dict[Any, Any]:
        return round_on_samples(
            graph, products_of(graph, fits), counted, tmp_path, bits=4, block_size=32
        )

    whole = rounded()
    assert len(passes) == 1
    monkeypatch.setattr(compensate, "_BUDGET_BYTES", WIDTH * WIDTH * 4)
    parts = rounded()
    assert len(passes) == 3
    assert all(np.array_equal(whole[key].codes, parts[key].codes) for key in whole)


def test_samples_without_numbers_are_refused(tmp_path: Path) -> None:
    def unending() -> list[dict[str, Any]]:
        return [{"x": np.full((2, WIDTH), np.nan, np.float32)}]

    with pytest.raises(UsageError, match="Calibration"):
        to_blocks(write(tmp_path), tmp_path / "small.onnx", bits=4, samples=unending)


def measured(folder: Path, *, loud: bool) -> tuple[Graph, list[Group]]:
    graph = Graph(write(folder, loud=loud))
    rounded = round_on_samples(
        graph, products_of(graph, fits), samples, folder, bits=4, block_size=32
    )
    return graph, measure(graph, rounded, samples, folder / "opened.onnx")


def test_the_weight_that_counts_for_most_is_found_and_raised(tmp_path: Path) -> None:
    graph, groups = measured(tmp_path, loud=True)
    names = dict(zip(layers_of(graph, groups), groups, strict=True))
    assert set(names) == {"first", "second", "head"}
    assert names["second"].harm > 100 * names["first"].harm
    assert [value.name for value in graph.proto.input] == ["x"]
    raised = most_harmful(groups, share=0.4, left=0.3)
    assert names["second"] in raised
    assert names["first"] not in raised
    target = tmp_path / "mixed.onnx"
    keys = [key for group in raised for key in group.keys]
    write_blocks(graph, target, Plan(4, 4, 32), raised=[name for name, _ in keys])
    bits = {
        node.input[1]: helper.get_node_attr_value(node, "bits")
        for node in onnx.load(target).graph.node
        if node.op_type == "MatMulNBits"
    }
    assert {name: width for name, width in bits.items() if "second" in name} == {"second_q8": 8}
    assert bits["first_q4"] == 4
    to_blocks(tmp_path / "float.onnx", tmp_path / "plain.onnx", bits=4)
    source = tmp_path / "float.onnx"
    assert error(source, target) < error(source, tmp_path / "plain.onnx")


def test_harm_of_logits_is_their_divergence() -> None:
    exact = correlated(4, 30, 1)
    assert sensitivity.divergence(exact, exact + 3, "logits") == pytest.approx(0, abs=1e-6)
    assert sensitivity.divergence(exact, exact + 3, "states") > 0.1
    assert sensitivity.divergence(exact, -exact, "logits") > 0.1


HARMS = st.lists(st.tuples(st.floats(0, 10), st.integers(0, 1000)), max_size=12)


@given(HARMS, st.floats(0, 1), st.floats(0, 1))
def test_no_more_is_raised_than_there_is_room_for(
    drawn: list[tuple[float, int]], share: float, left: float
) -> None:
    groups = [Group(((str(n), True),), harm, extra) for n, (harm, extra) in enumerate(drawn)]
    raised = most_harmful(groups, share=share, left=left)
    spent = sum(group.extra_bytes for group in raised)
    assert spent <= share * sum(group.extra_bytes for group in groups)
    assert len(set(raised)) == len(raised)
    if left == 1:
        assert not raised


@pytest.mark.parametrize(("layers", "shapes"), [(100, 4), (3, 2), (1, 50), (500, 1)])
def test_groups_are_few_whatever_the_model(layers: int, shapes: int) -> None:
    drawn = {
        (f"{layer}.{shape}", True): (1, shape) for layer in range(layers) for shape in range(shapes)
    }
    groups = sensitivity.grouped(drawn)
    assert len(groups) <= MOST_GROUPS
    assert sorted(key for group in groups for key in group) == sorted(drawn)


def test_tables_are_measured_as_well(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gather", ["table", "ids"], ["y"])]
    for width, whole in ((WIDTH, 1), (100, 0)):
        graph = helper.make_graph(
            nodes,
            "table",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
            [numpy_helper.from_array(weights(VOCABULARY, width, 0), "table")],
        )
        onnx.save(helper.make_model(graph), tmp_path / "table.onnx")
        assert len(tables_of(Graph(tmp_path / "table.onnx"), fits, 32)) == whole
