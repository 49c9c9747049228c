"""Exact sums of 8-bit products are asked for where a processor's own would overflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.runtimes.engines import onnxruntime as engine
from edgeward.runtimes.engines.base import EngineOptions, Tensor
from edgeward.runtimes.engines.exact_sums import pairs_overflow

ROWS, COLUMNS = 577, 48
WITH, WITHOUT = "flags\t\t: fpu avx512f avx512_vnni\n", "flags\t\t: fpu avx2 avx512f\n"


@pytest.mark.parametrize(
    ("cpuinfo", "overflow"),
    [
        (WITH, False),
        ("flags : fpu avx_vnni\n", False),
        (WITHOUT, True),
        (f"processor : 0\n{WITH}\nprocessor : 1\n{WITHOUT}", True),
        ("flags : fpu avx512_vnni_of_another_name\n", True),
        ("Features : fp asimddp\n", True),
        ("", True),
        (None, True),
    ],
)
def test_only_a_processor_that_tells_of_vnni_is_trusted(
    tmp_path: Path, cpuinfo: str | None, overflow: bool
) -> None:
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    assert pairs_overflow(path) == overflow


@pytest.fixture(scope="module")
def weights() -> Tensor:
    return np.random.default_rng(1).choice([-128, 127], (ROWS, COLUMNS)).astype(np.int8)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, weights: Tensor) -> Path:
    path = tmp_path_factory.mktemp("sums") / "model.onnx"
    made = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "weights"], ["y"])],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["rows", ROWS])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["rows", COLUMNS])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )
    return path


def test_sums_are_exact_as_this_processor_is_asked(graph: Path, weights: Tensor) -> None:
    given = np.full((9, ROWS), 255, np.uint8)
    (found,) = engine.open_model(graph, EngineOptions(threads=1)).run({"x": given}).values()
    assert np.array_equal(found, given.astype(np.int32) @ weights.astype(np.int32))


@pytest.mark.parametrize("overflow", [False, True])
def test_the_engine_is_asked_where_pairs_overflow(
    graph: Path, overflow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "pairs_overflow", lambda: overflow)
    native = engine.open_model(graph, EngineOptions(threads=1)).native
    name = "session.x64quantprecision"
    assert _has(native.get_session_options(), name) == overflow


def _has(settings: object, name: str) -> bool:
    try:
        return bool(settings.get_session_config_entry(name))  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001  ONNX Runtime raises a bare one for a name that is not there
        return False
