"""Masks of a fused decoder: what the kernel hides by itself goes, everything else stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeward.compiler.formats.onnx_passes.causal import Lean, leave_causal_masks
from edgeward.compiler.formats.onnx_passes.graph import MICROSOFT, Graph

HEADS, WIDTH, WORDS = 2, 8, 11
HIDDEN = HEADS * WIDTH
LEAST = float(np.finfo(np.float32).min)
Floats = NDArray[np.float32]


class Decoder:
    """One layer of fused attention under a mask, written node by node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.held: list[Any] = []

    def op(self, kind: str, *inputs: Any, domain: str = "", outputs: int = 1, **given: Any) -> str:
        names = [one if isinstance(one, str) else self.hold(one) for one in inputs]
        out = f"{kind.lower()}{len(self.nodes)}"
        outs = [out, *(f"{out}_{place}" for place in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, names, outs, domain=domain, **given))
        return out

    def hold(self, array: Any) -> str:
        name = f"c{len(self.held)}"
        self.held.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def lengths(self) -> tuple[str, str]:
        """The number of new tokens and of all."""
        new = self.op("Shape", "input_ids", start=1, end=2)
        return new, self.op("Shape", "attention_mask", start=1, end=2)

    def seen(self, window: int = 0) -> str:
        """Which of all tokens each new one sees: (1, 1, new, all) booleans."""
        new, total = (self.op("Squeeze", one) for one in self.lengths())
        past = self.op("Sub", total, new)
        rows = self.op("Add", self.op("Range", np.int64(0), new, np.int64(1)), past)
        rows = self.op("Unsqueeze", rows, np.array([0, 1, 3]))
        columns = self.op("Range", np.int64(0), total, np.int64(1))
        columns = self.op("Unsqueeze", columns, np.array([0, 1, 2]))
        seen = self.op("LessOrEqual", columns, rows)
        if window:
            inside = self.op("Less", self.op("Sub", rows, columns), np.int64(window))
            seen = self.op("And", seen, inside)
        return seen

    def bias(self, seen: str, least: float = LEAST) -> str:
        return self.op("Where", seen, np.float32(0), np.float32(least))

    def attention(self, bias: str) -> str:
        """What comes out of attention, (1, new, hidden)."""
        generator = np.random.default_rng(3)
        table = generator.normal(size=(WORDS, HIDDEN)).astype(np.float32)
        packed = generator.normal(size=(HIDDEN, 3 * HIDDEN)).astype(np.float32)
        states = self.op("MatMul", self.op("Gather", table, "input_ids"), packed)
        _, total = self.lengths()
        whole = self.op("Cast", total, to=TensorProto.INT32)
        last = self.op("Sub", whole, np.array([1], np.int32))
        inputs = [states, "", "", "past_key_values.0.key", "past_key_values.0.value"]
        inputs += [last, self.op("Squeeze", whole), "", "", "", bias]
        self.nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                inputs,
                ["seen", "present.0.key", "present.0.value"],
                domain=MICROSOFT,
                num_heads=HEADS,
                kv_num_heads=HEADS,
            )
        )
        return "seen"

    def guarded(self, states: str, blind: str) -> str:
        """Zeros where a token sees nothing, by heads, as torch's own attention gives them."""
        heads = self.op("Reshape", states, np.array([1, -1, HEADS, WIDTH]))
        kept = self.op("Where", blind, np.float32(0), heads)
        return self.op("Reshape", kept, np.array([1, -1, HIDDEN]))

    def blind(self, seen: str) -> str:
        count = self.op("Cast", seen, to=TensorProto.INT64)
        count = self.op("ReduceSum", count, np.array([-1]), keepdims=1)
        return self.op("Transpose", self.op("Less", count, np.int64(1)), perm=[0, 2, 1, 3])

    def save(self, out: str, path: Path) -> Path:
        head = np.random.default_rng(5).normal(size=(HIDDEN, WORDS)).astype(np.float32)
        self.nodes.append(helper.make_node("MatMul", [out, self.hold(head)], ["logits"]))
        whole, real = TensorProto.INT64, TensorProto.FLOAT
        past, total = [1, HEADS, "past", WIDTH], [1, HEADS, "total", WIDTH]
        told = [
            helper.make_tensor_value_info("input_ids", whole, [1, "sequence"]),
            helper.make_tensor_value_info("attention_mask", whole, [1, "total"]),
            helper.make_tensor_value_info("past_key_values.0.key", real, past),
            helper.make_tensor_value_info("past_key_values.0.value", real, past),
        ]
        gives = [
            helper.make_tensor_value_info("logits", real, [1, "sequence", WORDS]),
            helper.make_tensor_value_info("present.0.key", real, total),
            helper.make_tensor_value_info("present.0.value", real, total),
        ]
        graph = helper.make_graph(self.nodes, "decoder", told, gives, self.held)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
        return path


def run(path: Path, new: int, past: int) -> list[Floats]:
    generator = np.random.default_rng(11)
    state = generator.normal(size=(1, HEADS, past, WIDTH)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {
        "input_ids": generator.integers(0, WORDS, (1, new)),
        "attention_mask": np.ones((1, past + new), np.int64),
        "past_key_values.0.key": state,
        "past_key_values.0.value": state[..., ::-1].copy(),
    }
    return [np.asarray(one) for one in session.run(None, given)]


def leaned(path: Path) -> tuple[Lean, Path]:
    graph = Graph(path)
    found = leave_causal_masks(graph)
    target = path.with_name("lean.onnx")
    graph.save(target)
    for new, past in ((1, 0), (6, 0), (1, 9), (4, 7), (2, 400)):
        for before, after in zip(run(path, new, past), run(target, new, past), strict=True):
            np.testing.assert_allclose(after, before, atol=1e-5)
    return found, target


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_what_hides_the_future_alone_goes(tmp_path: Path) -> None:
    decoder = Decoder()
    seen = decoder.seen()
    out = decoder.guarded(decoder.attention(decoder.bias(seen)), decoder.blind(seen))
    found, target = leaned(decoder.save(out, tmp_path / "whole.onnx"))
    assert found == Lean(biases=1, guards=1, reshapes=1)
    left = operators(target)
    assert not left & Counter(["Where", "Range", "Reshape", "LessOrEqual"])
    (attention,) = (n for n in onnx.load(target).graph.node if n.op_type == "GroupQueryAttention")
    assert len(attention.input) == 7


@pytest.mark.parametrize("window", [1, 5, 299, 300, 4096])
def test_a_window_stays(tmp_path: Path, window: int) -> None:
    decoder = Decoder()
    out = decoder.attention(decoder.bias(decoder.seen(window)))
    found, target = leaned(decoder.save(out, tmp_path / "whole.onnx"))
    assert found.biases == 0
    assert operators(target)["Less"] == 1


def test_a_bias_that_only_weakens_stays(tmp_path: Path) -> None:
    decoder = Decoder()
    out = decoder.attention(decoder.bias(decoder.seen(), least=-3.0))
    assert leaned(decoder.save(out, tmp_path / "whole.onnx"))[0].biases == 0


def test_a_bias_by_distance_stays(tmp_path: Path) -> None:
    decoder = Decoder()
    slope = decoder.op("Cast", decoder.seen(), to=TensorProto.FLOAT)
    out = decoder.attention(decoder.op("Add", decoder.bias(decoder.seen()), slope))
    assert leaned(decoder.save(out, tmp_path / "whole.onnx"))[0].biases == 0


def test_a_bias_of_what_the_model_computes_stays(tmp_path: Path) -> None:
    decoder = Decoder()
    learnt = decoder.op("ReduceMean", "past_key_values.0.key", np.array([0, 1, 2, 3]), keepdims=1)
    small = decoder.op("Mul", learnt, np.float32(0))
    out = decoder.attention(decoder.op("Add", decoder.bias(decoder.seen()), small))
    path = decoder.save(out, tmp_path / "whole.onnx")
    assert leave_causal_masks(Graph(path)).biases == 0


def test_a_guard_that_holds_for_some_stays(tmp_path: Path) -> None:
    decoder = Decoder()
    few = decoder.blind(decoder.op("Not", decoder.seen(window=3)))
    out = decoder.guarded(decoder.attention(decoder.bias(decoder.seen())), few)
    found, target = leaned(decoder.save(out, tmp_path / "whole.onnx"))
    assert (found.guards, operators(target)["Where"]) == (0, 1)
