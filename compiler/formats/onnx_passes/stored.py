"""Weights stored as bfloat16 and cast to float32 as the graph is loaded: half the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeward.errors import UnsupportedError

from .graph import Array, Graph, attributes, make, size_of

_SMALLEST = 1 << 8
_MOST = 3.3895313892515355e38


def to_stored_bfloat16(source: Path, target: Path) -> dict[str, Any]:
    """Store float32 weights as bfloat16, rounded to the nearest; everything computes in float32.

    A Cast stands behind each weight, which engines fold as they load; a table that is only looked
    up is cast row by row and stays as small in memory. What bfloat16 cannot hold (masks of -3.4e38
    among it) and what has under 256 values stays as it is. All operators are standard ones. Raises
    UnsupportedError where the graph has no such weight.
    """
    import ml_dtypes
    from onnx import numpy_helper

    graph = Graph(source)
    readers = graph.readers()
    nodes = list(graph.proto.node)
    before: list[Any] = []
    after: dict[int, Any] = {}
    stored = 0
    for name in list(graph.initializers):
        values = _weight(graph, name)
        if values is None:
            continue
        places = readers.get(name, [])
        stored += 1
        graph.initializers[name].CopyFrom(
            numpy_helper.from_array(values.astype(ml_dtypes.bfloat16), name)
        )
        if places and all(_looks_up(nodes[at], place) for at, place in places):
            for at, _ in places:
                after[at] = _cast_rows(graph, nodes[at])
        else:
            wide = graph.unique(f"{name}_float32")
            before.append(make("Cast", [name], [wide], given={"to": 1}))
            for at, place in places:
                nodes[at].input[place] = wide
    if not stored:
        raise UnsupportedError("bf16 has nothing to store in this model", why="it stores weights")
    changed = [twin for at, node in enumerate(nodes) for twin in (node, after.get(at)) if twin]
    graph.replace_nodes([*before, *changed])
    graph.save(target)
    return {"weights": stored, "bytes_before": size_of(source), "bytes": size_of(target)}


def _weight(graph: Graph, name: str) -> Array | None:
    """The values of a weight that bfloat16 can hold; None where it is none."""
    if name in graph.captured or name in {o.name for o in graph.proto.output}:
        return None
    values = graph.array(name)
    if values is None or str(values.dtype) != "float32" or values.size < _SMALLEST:
        return None
    return values if bool((np.abs(values) <= _MOST).all()) else None


def _looks_up(node: Any, place: int) -> bool:
    return place == 0 and node.op_type == "Gather" and not attributes(node).get("axis", 0)


def _cast_rows(graph: Graph, node: Any) -> Any:
    """The Cast behind a look-up, which gives narrow rows from now on."""
    out = node.output[0]
    node.output[0] = graph.unique(f"{out}_bfloat16")
    return make("Cast", [node.output[0]], [out], given={"to": 1})
