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
from edgeward.runtimes.engines.coreml_packages import packages_of
from edgeward.runtimes.engines.coreml_slots import layout_of
from edgeward.runtimes.tasks.sequences import SequenceGraph
from edgeward.runtimes.tasks.slots import SlottedDecoder, SlottedState

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


def test_chunks_are_in_the_order_of_their_numbers_and_an_encoder_stands_beside() -> None:
    parts = {
        role: Path(f"/b/{role}.mlpackage/Manifest.json")
        for role in ("chunk10", "chunk2", "encoder")
    }
    found = packages_of(Path("/b/model.mlpackage/Manifest.json"), parts)
    assert [one.name for one in found.chunks] == [
        "model.mlpackage",
        "chunk2.mlpackage",
        "chunk10.mlpackage",
    ]
    assert found.parts == {"encoder": Path("/b/encoder.mlpackage")}


def heard(function: str, given: dict[str, Any], state: Any) -> dict[str, Any]:
    """An encoder that doubles what it reads."""
    assert (function, state) == ("", None)
    return {"present_0_encoder_key": given["input_features"] * 2}


def written(function: str, given: dict[str, Any], state: Any) -> dict[str, Any]:
    """A decoder whose likeliest token is the sum of all it saw and of what was read."""
    assert (function, state) == ("", None)
    seen = given["kv_cache_k_0"].copy()
    seen[0, 0, int(given["position"][0]), 0] = given["input_ids"][0, 0]
    likeliest = int(seen.sum() + given["present_0_encoder_key"].sum()) % WORDS
    logits = np.eye(WORDS, dtype=np.float16)[[[likeliest]]]
    return {"logits": logits, "new_kv_cache_k_0": seen}


def test_a_cache_that_is_given_back_serves_behind_what_an_encoder_gave() -> None:
    cache, crossed = (1, 1, 4, 1), port("present_0_encoder_key", FLOAT16, 1, 1, 2, 1)
    encoder = session(
        [described("", [port("input_features", FLOAT16, 1, 1, 2, 1)], [crossed], [])], heard
    )
    ports = [
        port("input_ids", INT32, 1, 1),
        port("position", INT32, 1),
        port("kv_cache_k_0", FLOAT16, *cache),
        crossed,
    ]
    outputs = [port("logits", FLOAT16, 1, 1, WORDS), port("new_kv_cache_k_0", FLOAT16, *cache)]
    functions = Simulated([described("", ports, outputs, [])], written)
    ref = EngineRef(name="x", version="1")
    graph = SequenceGraph(coreml.CoreMLSession(functions, ref, {"encoder": encoder}))
    one, other = (
        graph.read({"input_features": np.full((1, 1, 2, 1), value, np.float32)}) for value in (0, 1)
    )
    assert isinstance(one, SlottedState)
    assert [int(one.next_logits([token]).argmax()) for token in (1, 2, 1)] == [1, 3, 4]
    assert [int(row.argmax()) for row in other.logits([1, 2, 1])] == [0, 2, 3]
    with pytest.raises(UsageError, match="longer than the 4"):
        one.logits([1, 2])
    decoder = coreml.CoreMLSession(functions, ref).slotted
    assert decoder is not None
    with pytest.raises(UsageError, match="needs present_0_encoder_key of shape"):
        decoder.fresh({})
    with pytest.raises(UsageError, match="does not look back"):
        decoder.fresh({"present_0_encoder_key": np.zeros((1, 1, 2, 1)), "x": np.zeros(1)})


def test_functions_that_do_not_share_a_cache_are_refused() -> None:
    calls = [{"input_ids": (1, size), "position": (1,), "c": (1, 1, 4, 1)} for size in (1, 3)]
    told = ("logits", "new_c")
    found = layout_of(calls, told, [])
    assert found is not None
    assert (found.steps, found.context, found.held) == ((1, 3), 4, {})
    assert layout_of([{"x": (1, 2)}], told, []) is None
    assert layout_of([{"input_ids": (1, 1), "position": (1,)}], told, []) is None
    for wrong in ((1, 1, 5, 1), (1, 4), (1, 1, 0, 1)):
        with pytest.raises(EngineError, match="do not share one cache"):
            layout_of([calls[0], {**calls[1], "c": wrong}], told, [])
    with pytest.raises(EngineError, match="do not share one cache"):
        layout_of(calls, told, [(2, 1, 5, 1)])
