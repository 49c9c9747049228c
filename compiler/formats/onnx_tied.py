"""Weights that a model shares, stored once: a head that is its embedding turned over."""

from __future__ import annotations

from typing import Any


def tie_weights(program: Any) -> None:
    """Let a head that is its embedding turned over read it: `Gemm` turns it by itself."""
    from onnx_ir.passes.common import DeduplicateInitializersPass, RemoveUnusedNodesPass

    graph = program.graph
    embeddings = [
        node.inputs[0] for node in graph if node.op_type == "Gather" and _is_matrix(node.inputs[0])
    ]
    for node in list(graph):
        if node.op_type != "MatMul":
            continue
        for embedding in embeddings:
            if _is_turned(embedding, node.inputs[1]):
                _read_turned(graph, node, embedding)
                break
    RemoveUnusedNodesPass()(program)
    DeduplicateInitializersPass()(program)


def _is_matrix(value: Any) -> bool:
    return value is not None and value.const_value is not None and len(value.shape) == 2


def _is_turned(embedding: Any, weight: Any) -> bool:
    """Whether it is the embedding turned over: stored so, or by a node, which large ones keep.

    An engine would compute that node while it loads: a third copy beside the one it packs.
    """
    if _is_matrix(weight):
        return _is_transposed(embedding, weight)
    turned = weight.producer()
    if turned is None or turned.op_type != "Transpose" or turned.inputs[0] is not embedding:
        return False
    order = turned.attributes.get("perm")
    return order is None or list(order.as_ints()) == [1, 0]


def _is_transposed(embedding: Any, weight: Any) -> bool:
    import numpy as np

    if tuple(embedding.shape) != tuple(weight.shape)[::-1]:
        return False
    return np.array_equal(embedding.const_value.numpy(), weight.const_value.numpy().T)


def _read_turned(graph: Any, node: Any, embedding: Any) -> None:
    """Replace `MatMul(states, embedding.T)` by a Gemm on the rows of all sequences."""
    import numpy as np
    import onnx_ir

    vocabulary, width = (int(axis) for axis in embedding.shape)
    tape = onnx_ir.tape.Tape(graph)
    rows, back = (
        tape.initializer(onnx_ir.tensor(np.array(shape, np.int64), name=f"{embedding.name}_{name}"))
        for name, shape in (("rows", [-1, width]), ("last", [vocabulary]))
    )
    leading = tape.op("Shape", [node.inputs[0]], attributes={"start": 0, "end": -1})
    shape = tape.op("Concat", [leading, back], attributes={"axis": 0})
    states = tape.op("Reshape", [node.inputs[0], rows])
    product = tape.op("Gemm", [states, embedding], attributes={"transB": 1})
    result = tape.op("Reshape", [product, shape])
    old = node.outputs[0]
    result.dtype, result.shape = old.dtype, old.shape
    for made in tape.nodes:
        graph.insert_before(node, made)
    name = old.name
    onnx_ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    result.name = name
