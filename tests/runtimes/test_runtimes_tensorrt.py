"""The TensorRT engine on the simulated package: its calls are the real ones, its edges hold."""

from __future__ import annotations

import inspect
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from simulated_device import SUPPORT
from simulated_plan import make_plan

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.engines import cuda
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.tensorrt import TensorrtSession, open_model

SIGNATURES = json.loads((SUPPORT / "tensorrt_signatures.json").read_text())


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setattr(cuda, "open_library", cuda.open_library)
    monkeypatch.syspath_prepend(str(SUPPORT / "tensorrt_sim"))
    import tensorrt

    yield tensorrt
    sys.modules.pop("tensorrt")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Two inputs of two types; `y` is the sum of x's rows where `keep` is true."""
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["batch", "sequence"]),
        helper.make_tensor_value_info("keep", TensorProto.BOOL, ["batch", "sequence"]),
    ]
    made = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["batch", 1]),
        helper.make_tensor_value_info("kept", TensorProto.FLOAT16, ["batch", "sequence"]),
    ]
    nodes = [
        helper.make_node("Cast", ["keep"], ["factor"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["x", "factor"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["y"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "sums", given, made, [axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = tmp_path / "model.plan"
    shapes = {name: [[1, 0], [1, 8], [4, 16]] for name in ("x", "keep")}
    path.write_bytes(make_plan("10.3.0", shapes, model.SerializeToString()))
    onnx.checker.check_model(model)
    return path


def arrays(batch: int, length: int) -> dict[str, Any]:
    drawn = np.random.default_rng(batch * 100 + length)
    keep = drawn.random((batch, length)) > 0.5
    return {"x": drawn.standard_normal((batch, length)).astype(np.float16), "keep": keep}


def wanted(given: dict[str, Any]) -> Any:
    return (given["x"] * given["keep"]).sum(axis=1, keepdims=True, dtype=np.float32)


def session(trt: ModuleType, plan: Path) -> TensorrtSession:
    return TensorrtSession(trt, cuda.open_cuda(), plan)


def test_the_simulated_package_has_the_real_ones_names_and_arguments(trt: ModuleType) -> None:
    for name, members in SIGNATURES["classes"].items():
        simulated = getattr(trt, name)
        own = {m for m in vars(simulated) if not m.startswith("_")}
        assert own <= set(members), name
        for member, parameters in members.items():
            if parameters is None or (member == "__init__" and name not in ("Logger", "Builder")):
                continue
            found = list(inspect.signature(getattr(simulated, member)).parameters)[1:]
            assert found == parameters, f"{name}.{member}"
    for name, members in SIGNATURES["enums"].items():
        assert set(getattr(trt, name).__members__) <= set(members), name


def test_shapes_within_the_profile_run(trt: ModuleType, plan: Path) -> None:
    opened = session(trt, plan)
    assert (opened.inputs, opened.outputs) == (["x", "keep"], ["y", "kept"])
    assert opened.ref.name == "tensorrt"
    for batch, length in [(1, 1), (4, 16), (2, 3), (1, 16), (3, 0)]:
        given = arrays(batch, length)
        found = opened.run(given)
        assert found["y"].dtype == np.float16
        assert found["kept"].shape == (batch, length)
        np.testing.assert_allclose(found["y"], wanted(given), atol=0.05)
        (only,) = opened.run_prepared(given, ["kept"])
        np.testing.assert_array_equal(only, found["kept"])


def test_arrays_of_any_layout_and_byte_order_run(trt: ModuleType, plan: Path) -> None:
    given = arrays(2, 6)
    turned = {
        "x": given["x"].astype(given["x"].dtype.newbyteorder(">")),
        "keep": np.asfortranarray(given["keep"]),
    }
    np.testing.assert_array_equal(
        session(trt, plan).run(turned)["y"], session(trt, plan).run(given)["y"]
    )


def test_memory_grows_with_a_request_and_is_kept(trt: ModuleType, plan: Path) -> None:
    library = trt.SimulatedCudart()
    opened = TensorrtSession(trt, cuda.Cuda(library), plan)
    for size in (1, 4, 2, 4, 1):
        opened.run(arrays(size, 16))
        assert len(library.held) == 4
    del opened
    assert library.held == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.zeros((1, 17), np.float16)}, "x is 1x17, the engine was built for 1x0 to 4x16"),
        ({"x": np.zeros((1, 3), np.float32)}, "x is float32, expected float16"),
        ({"x": np.zeros(3, np.float16)}, "x is 3"),
        ({"more": np.zeros(1)}, "no input more"),
        ({"x": None}, "missing"),
    ],
)
def test_inputs_that_do_not_fit_are_told(
    trt: ModuleType, plan: Path, change: dict[str, Any], words: str
) -> None:
    given = {name: value for name, value in {**arrays(1, 3), **change}.items() if value is not None}
    with pytest.raises(UsageError) as caught:
        session(trt, plan).run(given)
    assert words in str(caught.value)


def test_another_versions_plan_is_refused(trt: ModuleType, plan: Path) -> None:
    plan.write_bytes(plan.read_bytes().replace(b"10.3.0", b"10.4.0", 1))
    with pytest.raises(EngineError, match="cannot load"):
        session(trt, plan)


def test_a_device_without_memory_says_so(trt: ModuleType, plan: Path) -> None:
    opened = TensorrtSession(trt, cuda.Cuda(trt.SimulatedCudart(limit=16)), plan)
    with pytest.raises(EngineError, match="CUDA failed") as caught:
        opened.run(arrays(4, 16))
    assert "out of memory (error 2)" in str(caught.value)


def test_threads_take_turns(trt: ModuleType, plan: Path) -> None:
    opened, wrong = session(trt, plan), []

    def ask(batch: int) -> None:
        given = arrays(batch, batch * 3)
        found = [opened.run(given)["y"] for _ in range(40)]
        wrong.extend(y for y in found if not np.allclose(y, wanted(given), atol=0.05))

    threads = [threading.Thread(target=ask, args=(batch,)) for batch in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_without_the_package_the_error_names_it(plan: Path) -> None:
    with pytest.raises(EngineError) as caught:
        open_model(plan, EngineOptions())
    assert caught.value.exit_code == 5
    assert "python3-libnvinfer" in caught.value.next
