"""A constant picture resized as two products: position tables of vision models."""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph import Array, Graph, attributes, make

_SHAPED = frozenset({"Reshape", "Slice", "Transpose"})


def resize_by_products(graph: Graph) -> int:
    """Rewrite every Resize of a constant [1, C, H, W] to given sizes; return how many.

    Such a resize is linear and separable, so resizing the two unit matrices gives the factors of
    A P B: engines resize one channel instead of C, and multiply. The sizes of batch and channels
    must be constants of the graph that stay as they are.
    """
    nodes: list[Any] = []
    found = 0
    for node in graph.proto.node:
        table = _table(graph, node)
        if table is None:
            nodes.append(node)
            continue
        found += 1
        nodes += _products(graph, node, table)
    if found:
        graph.replace_nodes(nodes)
    return found


def _table(graph: Graph, node: Any) -> Array | None:
    """The constant that a node resizes along its last two axes; None where it does not."""
    if node.op_type != "Resize" or len(node.input) != 4 or node.input[1] or node.input[2]:
        return None
    given = attributes(node)
    if given.get("mode", b"nearest") not in (b"linear", b"cubic") or given.get("antialias"):
        return None
    if given.get("coordinate_transformation_mode", b"half_pixel") == b"tf_crop_and_resize":
        return None
    if given.get("keep_aspect_ratio_policy", b"stretch") != b"stretch" or "axes" in given:
        return None
    table = constant(graph, node.input[0])
    sizes = graph.producers.get(node.input[3])
    if table is None or table.ndim != 4 or len(table) != 1 or sizes is None:
        return None
    if sizes.op_type != "Concat":
        return None
    first = graph.array(sizes.input[0])
    kept = first is not None and first.tolist() == list(table.shape[:2])
    return table if kept and str(table.dtype) == "float32" else None


def constant(graph: Graph, name: str) -> Array | None:
    """Return a value that constants alone make by Slice, Reshape and Transpose."""
    held = graph.array(name)
    node = graph.producers.get(name)
    if held is not None or node is None or node.op_type not in _SHAPED or node.domain:
        return held
    ins = [constant(graph, i) for i in node.input]
    if any(i is None for i in ins):
        return None
    known = [np.asarray(i) for i in ins]
    if node.op_type == "Transpose":
        return np.asarray(known[0].transpose(attributes(node)["perm"]))
    if node.op_type == "Reshape" and (known[1] != 0).all():
        return known[0].reshape(known[1])
    if node.op_type == "Slice" and len(known) > 3:
        steps = known[4] if len(known) > 4 else np.ones_like(known[3])
        places = [slice(None)] * known[0].ndim
        for start, end, axis, step in zip(*known[1:4], steps, strict=True):
            places[int(axis)] = slice(int(start), int(end), int(step))
        return known[0][tuple(places)]
    return None


def _products(graph: Graph, node: Any, table: Array) -> list[Any]:
    _, channels, height, width = table.shape
    rows = graph.add(table[0].transpose(1, 2, 0).reshape(height, -1), "table_rows")
    out = node.output[0]
    parts = ("high", "wide", "down", "across", "first", "cut", "second", "last")
    name = {part: graph.unique(f"{out}_{part}") for part in parts}
    cuts = [graph.add(np.array(v, np.int64), "cut") for v in ([2], [3], [4])]
    ones, sides = graph.add(np.array([1, 1], np.int64), "ones"), {}
    nodes = [
        make("Slice", [node.input[3], cuts[0], cuts[1]], [name["high"]]),
        make("Slice", [node.input[3], cuts[1], cuts[2]], [name["wide"]]),
    ]
    for side, size, length in (("down", "high", height), ("across", "wide", width)):
        unit = graph.add(np.eye(length, dtype=np.float32)[None, None], "unit")
        last = graph.add(np.array([length], np.int64), "length")
        sizes, sides[side] = graph.unique(f"{out}_sizes"), graph.unique(f"{out}_{side}_matrix")
        resized = make("Resize", [unit, "", "", sizes], [name[side]])
        resized.attribute.extend(node.attribute)
        flat = graph.add(np.array([-1, length], np.int64), "flat")
        nodes += [
            make("Concat", [ones, name[size], last], [sizes], given={"axis": 0}),
            resized,
            make("Reshape", [name[side], flat], [sides[side]]),
        ]
    shape = graph.add(np.array([-1, width, channels], np.int64), "table_shape")
    lead = graph.add(np.array([0], np.int64), "axis")
    return [
        *nodes,
        make("MatMul", [sides["down"], rows], [name["first"]]),
        make("Reshape", [name["first"], shape], [name["cut"]]),
        make("MatMul", [sides["across"], name["cut"]], [name["second"]]),
        make("Unsqueeze", [name["second"], lead], [name["last"]]),
        make("Transpose", [name["last"]], [out], given={"perm": [0, 3, 1, 2]}),
    ]
