"""What becomes of a head that is its embedding turned over; run with the `onnx` toolchain's Python.

usage: check_tied.py FOLDER. Prints JSON by how the head comes: the operators before and after, the
numbers that are stored after, and how far the answers are apart.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeward.compiler.formats.onnx_tied import tie_weights

_WORDS, _WIDTH = 40, 8
TABLE = np.random.default_rng(0).normal(size=(_WORDS, _WIDTH)).astype(np.float32)


def made(head: str) -> Any:
    """A model that looks words up and multiplies with the table, or with another one."""
    stored = {"table": TABLE}
    turn = [helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0])]
    if head == "stored":
        stored["turned"], turn = np.ascontiguousarray(TABLE.T), []
    elif head == "another":
        stored["other"] = TABLE + 1
        turn[0].input[0] = "other"
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["states"]),
        *turn,
        helper.make_node("MatMul", ["states", "turned"], ["logits"]),
    ]
    axes = ["batch", "sequence"]
    graph = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, axes)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*axes, _WORDS])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=opset, ir_version=10)
    )


def answers(path: Path) -> Any:
    """Run a file on two texts."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ids = np.arange(6, dtype=np.int64).reshape(2, 3) * 5
    return session.run(None, {"ids": ids})[0]


def tied(head: str, folder: Path) -> dict[str, Any]:
    """Tie one model."""
    before, after = folder / f"{head}.onnx", folder / f"{head}.tied.onnx"
    onnx.save(made(head), str(before))
    program = onnx_ir.load(str(before))
    tie_weights(program)
    onnx_ir.save(program, str(after))
    onnx.checker.check_model(str(after), full_check=True)
    return {
        "before": [node.op_type for node in onnx.load(before).graph.node],
        "after": [node.op_type for node in onnx.load(after).graph.node],
        "stored": sum(int(np.prod(one.dims)) for one in onnx.load(after).graph.initializer),
        "apart": float(np.abs(answers(before) - answers(after)).max()),
    }


if __name__ == "__main__":
    print(
        json.dumps({head: tied(head, Path(sys.argv[1])) for head in ("node", "stored", "another")})
    )
