"""A cache's pages: what a text has outgrown goes back before its larger room is full."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as Types
from onnx import helper

from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.onnxruntime import open_model
from edgeward.runtimes.statistics.memory import peak_bytes, resident_bytes
from edgeward.runtimes.tasks.cache_pages import let_go, pages
from edgeward.runtimes.tasks.cache_steps import SHARED_CACHE, Cache, empty_inputs, open_steps

MIB = 1 << 20
LAYERS, HEADS, WIDTH = 12, 4, 64
PAST = [f"past.{at}" for at in range(2 * LAYERS)]
PRESENT = [f"present.{at}" for at in range(2 * LAYERS)]
linux = pytest.mark.skipif(sys.platform != "linux", reason="madvise")


@linux
def test_a_part_that_is_let_go_takes_no_memory_and_its_neighbours_stay() -> None:
    room = pages(24 * MIB, np.float32)
    room[:] = 7
    held = resident_bytes()
    let_go(room[4 * MIB : 20 * MIB])
    assert held - resident_bytes() > 60 * MIB
    assert (room[: 4 * MIB] == 7).all() and (room[20 * MIB :] == 7).all()


def test_less_than_a_page_stays_as_it_is() -> None:
    room = pages(1 << 12, np.float32)
    room[:] = 7
    let_go(room[100:700])
    let_go(room[:0])
    assert (room == 7).all()


def test_a_cache_that_grows_keeps_what_was_seen(tmp_path: Path) -> None:
    shared, bound = (steps(graph(tmp_path / f"{how}.onnx", how)) for how in (True, False))
    for first, count in ((0, 200), (200, 1), (201, 300), (501, 1), (502, 700)):
        given = inputs(first, count)
        assert np.allclose(shared.run(given), bound.run(given), atol=1e-5)


@linux
def test_a_cache_never_takes_more_than_its_larger_room(tmp_path: Path) -> None:
    """The old room's 24 MiB would stand beside the new one's while they are copied."""
    path = graph(tmp_path / "model.onnx", shared=True)
    ran = subprocess.run([sys.executable, __file__, path], capture_output=True, check=True)
    found = json.loads(ran.stdout)
    assert found["peak"] - found["after"] < 8 * MIB
    assert found["after"] - found["before"] > 20 * MIB


def steps(path: Path) -> Any:
    """Return what runs the graph token by token."""
    engine = open_model(path, EngineOptions(threads=1))
    return open_steps(engine, Cache(PAST, PRESENT, empty_inputs(engine.native, PAST, 1)))


def inputs(first: int, count: int) -> dict[str, Any]:
    """Return so many tokens after the first ones."""
    ids = np.arange(first, first + count)[None] * 7919 % 1000
    return {"input_ids": ids, "attention_mask": np.ones((1, first + count), np.int64)}


def graph(path: Path, shared: bool) -> Path:
    """Write layers of attention over one token's number, each with a cache; logits as they come."""
    wide, cached = ["batch", "tokens", HEADS * WIDTH], ["batch", HEADS, "seen", WIDTH]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["numbers"], to=Types.FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "last"], ["column"]),
        helper.make_node("Mul", ["column", "row"], ["layer.0"]),
        helper.make_node("Shape", ["attention_mask"], ["length"], start=1),
        helper.make_node("Cast", ["length"], ["total"], to=Types.INT32),
        helper.make_node("Sub", ["total", "one"], ["seen"]),
    ]
    for at in range(LAYERS):
        given = [f"layer.{at}"] * 3 + PAST[2 * at : 2 * at + 2] + ["seen", "total"]
        made = ["logits" if at == LAYERS - 1 else f"layer.{at + 1}", *PRESENT[2 * at : 2 * at + 2]]
        heads = {"num_heads": HEADS, "kv_num_heads": HEADS, "domain": "com.microsoft"}
        nodes.append(helper.make_node("GroupQueryAttention", given, made, **heads))
    row = np.linspace(-1e-3, 1e-3, HEADS * WIDTH, dtype=np.float32)
    constants = {"last": np.array([2]), "row": row, "one": np.array([1], np.int32)}
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "cached",
            [
                value("input_ids", Types.INT64, ["batch", "tokens"]),
                value("attention_mask", Types.INT64, ["batch", "all"]),
                *(value(name, Types.FLOAT, cached) for name in PAST),
            ],
            [
                value("logits", Types.FLOAT, wide),
                *(value(name, Types.FLOAT, ["batch", HEADS, "room", WIDTH]) for name in PRESENT),
            ],
            [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
    )
    if shared:
        helper.set_model_props(model, {SHARED_CACHE: "1"})
    onnx.save(model, path)
    return path


def grown() -> None:
    """In a process of its own: 1024 tokens, then one more, which the room has to double for."""
    ran = steps(Path(sys.argv[1]))
    for first in range(0, 1024, 128):
        ran.run(inputs(first, 128))
    before = resident_bytes()
    ran.run(inputs(1024, 1))
    for first in range(1025, 2049, 128):
        ran.run(inputs(first, min(128, 2048 - first)))
    print(json.dumps({"before": before, "after": resident_bytes(), "peak": peak_bytes()}))


if __name__ == "__main__":
    grown()
