"""Sums of 8-bit products: exact everywhere, by an option only where the processor needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeward.runtimes.engines import onnxruntime as engine
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.exact_sums import COLUMNS, EXACT, GRAPH, OUTPUTS, sums_are_exact

CPU = EngineOptions(providers=("CPUExecutionProvider",), threads=1)


def product(weights: NDArray[np.int8] | None = None) -> bytes:
    """Rows of uint8 times int8 weights, given with the rows or stored."""
    stored = [] if weights is None else [numpy_helper.from_array(weights, "weights")]
    rows = helper.make_tensor_value_info("rows", TensorProto.UINT8, ["count", COLUMNS])
    given = helper.make_tensor_value_info("weights", TensorProto.INT8, [COLUMNS, OUTPUTS])
    sums = helper.make_tensor_value_info("sums", TensorProto.INT32, ["count", OUTPUTS])
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["rows", "weights"], ["sums"])],
        "exact_sums",
        [rows] if stored else [rows, given],
        [sums],
        stored,
    )
    opset = helper.make_opsetid("", 20)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString(
        deterministic=True
    )


def test_the_graph_is_a_product_of_8_bit_numbers() -> None:
    assert product() == GRAPH.read_bytes()
    onnx.checker.check_model(onnx.load_from_string(GRAPH.read_bytes()))


def test_largest_numbers_have_exact_sums_as_models_are_loaded(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(product(np.full((COLUMNS, OUTPUTS), 127, np.int8)))
    session = engine.open_model(path, CPU)
    (sums,) = session.run({"rows": np.full((3, COLUMNS), 255, np.uint8)}).values()
    assert np.array_equal(sums, np.full((3, OUTPUTS), 255 * 127 * COLUMNS))


class Overflowing:
    """ONNX Runtime on a processor whose sums of two products have 16 bits."""

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    class InferenceSession:
        def __init__(self, *_args: object, **_options: object) -> None: ...

        def run(self, _names: object, given: dict[str, Any]) -> list[Any]:
            pairs = given["rows"].astype(np.int64)[:, ::2, None] * given["weights"][None, ::2]
            return [np.minimum(2 * pairs, 32767).sum(axis=1)]


def test_a_processor_whose_sums_overflow_is_told_from_one_whose_do_not() -> None:
    assert not sums_are_exact(Overflowing())


@pytest.mark.parametrize("exact", [True, False])
def test_the_option_is_for_processors_that_need_it(
    monkeypatch: pytest.MonkeyPatch, *, exact: bool
) -> None:
    monkeypatch.setattr(engine, "sums_are_exact", lambda _: exact)
    settings = engine.exact_settings(onnxruntime, CPU, engine.DEFAULT_PROVIDERS)
    try:
        asked = settings.get_session_config_entry(EXACT[0])
    except RuntimeError:
        asked = ""
    assert (asked == EXACT[1]) is not exact
