"""Masks over a bias that a table tells, as T5's distances: added for all heads at once.

To choose between the bias and the number of what is hidden an engine makes three tensors of all
heads' scores. What is added instead, 0 or that number, is a mask's size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .facts import Facts
from .graph import Array, Graph, make

_MOVED = frozenset({"Unsqueeze", "Reshape", "Transpose"})


def add_masks(graph: Graph, facts: Facts) -> int:
    """Rewrite Where(seen, bias, hidden) as bias + Where(seen, 0, hidden); return how many.

    The bias has to be rows of a constant table that the hidden number swallows, each of them: then
    the sums are what was chosen, bit for bit.
    """
    nodes: list[Any] = []
    found = 0
    for node in graph.proto.node:
        hidden = _hidden(graph, facts, node)
        if hidden is None:
            nodes.append(node)
            continue
        found += 1
        seen, bias, _ = node.input
        mask = graph.unique(f"{bias}_mask")
        constants = [graph.add(number, "mask") for number in (np.zeros_like(hidden), hidden)]
        nodes += [
            make("Where", [seen, *constants], [mask]),
            make("Add", [bias, mask], list(node.output)),
        ]
    if found:
        graph.replace_nodes(nodes)
    return found


def _hidden(graph: Graph, facts: Facts, node: Any) -> Array | None:
    """The number that stands where such a node shows no bias; None where it is no such node."""
    if node.op_type != "Where" or node.domain or node.input[2] not in facts.value:
        return None
    seen, bias, hidden = node.input
    mask, values = facts.shapes.get(seen, ()), facts.shapes.get(bias, ())
    if len(mask) != len(values) or facts.shapes.get(hidden) not in ((), (1,), values):
        return None
    narrower = any(one == 1 != other for one, other in zip(mask, values, strict=True))
    table = _table(graph, bias) if narrower else None
    number = np.array(facts.value[hidden], np.float32)
    if table is None or table.dtype != np.float32:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return number if (table + number == number).all() else None


def _table(graph: Graph, name: str) -> Array | None:
    """The constant whose rows these are, however they lie."""
    node = graph.producers.get(name)
    while node is not None and node.op_type in _MOVED:
        node = graph.producers.get(node.input[0])
    return None if node is None or node.op_type != "Gather" else graph.array(node.input[0])
