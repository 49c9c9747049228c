"""The engine of a Mac, as far as it goes without one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeward.errors import EngineError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef
from edgeward.runtimes.engines import coreml
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.tasks.slots import SlottedDecoder

FLOAT16, INT32 = 65552, 131104
WORDS = 5


def port(name: str, kind: int, *shape: int) -> Any:
    array = SimpleNamespace(shape=shape, dataType=kind)
    kinds = SimpleNamespace(multiArrayType=array, stateType=SimpleNamespace(arrayType=array))
    return SimpleNamespace(name=name, type=kinds)


def described(name: str, inputs: list[Any], outputs: list[Any], state: list[Any]) -> Any:
    return SimpleNamespace(name=name, input=inputs, output=outputs, state=state)


class Simulated:
    """Stands for a package in Core ML: a function for each call, and what they predict."""

    def __init__(self, functions: list[Any], predict: Any) -> None:
        self.functions, self.predict = {one.name: one for one in functions}, predict
        self.packages = [Path("model.mlpackage")]

    def names(self) -> list[str]:
        return list(self.functions)

    def described(self, chunk: int, function: str) -> Any:
        assert chunk == 0
        return self.functions[function]

    def model(self, chunk: int, function: str) -> Any:
        del chunk
        return SimpleNamespace(
            predict=lambda given, state=None: self.predict(function, given, state),
            make_state=lambda: {"seen": []},
        )


def session(functions: list[Any], predict: Any) -> coreml.CoreMLSession:
    return coreml.CoreMLSession(Simulated(functions, predict), EngineRef(name="x", version="1"))


def test_it_says_what_to_do_where_core_ml_is_not(tmp_path: Path) -> None:
    assert sys.platform != "darwin"
    with pytest.raises(EngineError, match="Core ML runs on Apple's systems alone") as raised:
        coreml.open_model(tmp_path / "model.mlpackage", EngineOptions())
    assert "pip install" in str(raised.value.next)


def test_the_function_whose_shapes_are_given_runs_and_floats_come_back_wide() -> None:
    asked = []

    def predict(function: str, given: dict[str, Any], state: Any) -> dict[str, Any]:
        assert state is None
        asked.append((function, given["x"].dtype.name))
        return {"y": given["x"] * 2}

    functions = [
        described(name, [port("x", FLOAT16, 1, size)], [port("y", FLOAT16, 1, size)], [])
        for name, size in (("main", 8), ("short", 4))
    ]
    one = session(functions, predict)
    found = one.run({"x": np.ones((1, 4), np.float64)})["y"]
    assert asked == [("short", "float16")]
    assert (found.dtype, found.shape, found[0, 0]) == (np.float32, (1, 4), 2)
    with pytest.raises(UsageError, match="No function"):
        one.run({"x": np.ones((1, 5))})
    with pytest.raises(UsageError, match="do not fit"):
        one.run({"z": np.ones((1, 4))})


def test_a_stateful_package_decodes_in_slots() -> None:
    def predict(function: str, given: dict[str, Any], state: Any) -> dict[str, Any]:
        assert given["input_ids"].dtype == given["position"].dtype == np.int32
        del state["seen"][int(given["position"][0]) :]
        state["seen"] += given["input_ids"][0].tolist()
        size = {"main": 1, "prefill": 4}[function]
        return {"logits": np.eye(WORDS, dtype=np.float16)[given["input_ids"] % WORDS][:, :size]}

    functions = [
        described(
            name,
            [port("input_ids", INT32, 1, size), port("position", INT32, 1)],
            [port("logits", FLOAT16, 1, size, WORDS)],
            [port("key_cache", FLOAT16, 2, 3, 16, 8)],
        )
        for name, size in (("main", 1), ("prefill", 4))
    ]
    slots = session(functions, predict).slotted
    assert slots is not None
    assert (slots.steps, slots.context) == ((1, 4), 16)
    state = SlottedDecoder(slots).start()
    logits = state.logits([1, 2, 3, 4, 6])
    assert logits.argmax(-1).tolist() == [1, 2, 3, 4, 1]
    assert int(state.next_logits([7]).argmax()) == 2
    with pytest.raises(UsageError, match="longer than the 16"):
        state.logits(list(range(11)))
