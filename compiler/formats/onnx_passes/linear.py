"""A layer's product and bias: factors that follow it go into its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import Array, Graph

Readers = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Linear:
    """x W + b: the product's node, and the bias's where there is one, with the bias's place."""

    product: Any
    bias: Any | None = None
    place: int = 1

    @property
    def out(self) -> str:
        """What comes out of it."""
        return str((self.product if self.bias is None else self.bias).output[0])


def linear_at(graph: Graph, name: str) -> Linear | None:
    """Return the layer that makes a value: MatMul by a constant, and Add of a constant row."""
    node = graph.producers.get(name)
    if node is None or node.domain:
        return None
    if node.op_type == "MatMul":
        weight = graph.weight(node)
        return Linear(node) if weight is not None and weight.name == node.input[1] else None
    if node.op_type != "Add":
        return None
    for place in (0, 1):
        row = graph.array(node.input[place])
        if row is None:
            continue
        inner = linear_at(graph, node.input[1 - place])
        if inner is None or inner.bias is not None:
            continue
        width = graph.initializers[inner.product.input[1]].dims[1]
        if row.shape == (width,) and str(row.dtype) == "float32":
            return Linear(inner.product, node, place)
    return None


def fold_scale(graph: Graph, readers: Readers, name: str, factor: float | Array) -> bool:
    """Multiply the layer behind a value by a number, or by a row; False where it cannot be.

    It cannot where something else reads what lies between. Transposes and Reshapes are looked
    through for a number, which no order of axes changes.
    """
    given = {o.name for o in graph.proto.output} | graph.captured
    while len(readers.get(name, ())) == 1 and name not in given:
        node = graph.producers.get(name)
        if node is None or node.op_type not in ("Transpose", "Reshape") or np.ndim(factor):
            break
        name = node.input[0]
    else:
        return False
    linear = linear_at(graph, name)
    if linear is None or len(readers.get(linear.product.output[0], ())) != 1:
        return False
    product, row = linear.product, np.asarray(factor, np.float32)
    weight = graph.array(product.input[1])
    if weight is None or (row.ndim and row.shape != weight.shape[1:]):
        return False
    product.input[1] = graph.add((weight * row).astype(np.float32), f"{product.input[1]}_scaled")
    if linear.bias is not None:
        before = linear.bias.input[linear.place]
        bias = np.asarray(graph.array(before), np.float32)
        linear.bias.input[linear.place] = graph.add(bias * row, f"{before}_scaled")
    return True


def fold_factors(graph: Graph) -> int:
    """Fold every constant factor that follows a layer, as a layer scale; return how many."""
    readers: dict[str, list[Any]] = {}
    for node in graph.proto.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {o.name for o in graph.proto.output} | graph.captured
    renamed: dict[str, str] = {}
    for node in graph.proto.node:
        if node.op_type != "Mul" or node.domain or outputs.intersection(node.output):
            continue
        for value, constant in (tuple(node.input), tuple(node.input)[::-1]):
            row = graph.array(constant)
            if row is None or str(row.dtype) != "float32" or row.ndim > 1:
                continue
            factor: float | Array = float(row.flat[0]) if row.size == 1 else row
            linear = linear_at(graph, value)
            if linear is not None and fold_scale(graph, readers, value, factor):
                renamed[node.output[0]] = value
                break
    kept = [node for node in graph.proto.node if not renamed.keys() & set(node.output)]
    for node in kept:
        for place, name in enumerate(node.input):
            if name in renamed:
                node.input[place] = renamed[name]
    if renamed:
        graph.replace_nodes(kept)
    return len(renamed)
