"""Integers in operators that an engine has for floats alone, said with operators that it has."""

from __future__ import annotations

from typing import Any

from .graph import Graph, make
from .types import Typed

_FLOAT = 1


def replace_integers(graph: Graph) -> int:
    """Rewrite running sums and clips of integers; return how many.

    A running sum goes through float32, exact up to 2^24: what counts positions stays far below.
    A clip becomes Max and Min, which know integers.
    """
    typed, nodes, count = Typed(graph, "float16"), [], 0
    kinds = _integers()
    for node in graph.proto.node:
        kind = typed.types.get(node.input[0], 0) if node.input else 0
        made = _said(graph, node, kind) if not node.domain and kind in kinds else []
        count += bool(made)
        nodes += made or [node]
    if count:
        graph.replace_nodes(nodes)
    return count


def _said(graph: Graph, node: Any, kind: int) -> list[Any]:
    if node.op_type == "CumSum":
        floats, sums = (graph.unique(f"{node.output[0]}_{part}") for part in ("f32", "sum"))
        summed = make("CumSum", [floats, *node.input[1:]], [sums])
        summed.attribute.extend(node.attribute)
        return [
            make("Cast", [node.input[0]], [floats], given={"to": _FLOAT}),
            summed,
            make("Cast", [sums], list(node.output), given={"to": kind}),
        ]
    if node.op_type != "Clip":
        return []
    ends = list(zip(("Max", "Min"), node.input[1:], strict=False))
    given = [(op, bound) for op, bound in ends if bound]
    nodes, name = [], node.input[0]
    for position, (op, bound) in enumerate(given):
        last = position == len(given) - 1
        made = node.output[0] if last else graph.unique(f"{node.output[0]}_{op.lower()}")
        nodes.append(make(op, [name, bound], [made]))
        name = made
    return nodes


def _integers() -> tuple[int, int]:
    from onnx import TensorProto

    return int(TensorProto.INT32), int(TensorProto.INT64)
