"""What a graph says of its values before it runs: their shapes, and which are one number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .graph import Graph, attributes

_SMALL = 64
_SAME = frozenset(
    {"Unsqueeze", "Squeeze", "Expand", "Reshape", "Transpose", "Slice", "Identity", "Cast"}
)
Shape = tuple[int | str, ...]


@dataclass(slots=True)
class Facts:
    """Shapes, symbols by name; values all of whose elements are one number; and lower bounds.

    A size that nothing tells is an empty string, which equals no other.
    """

    graph: Graph
    shapes: dict[str, Shape] = field(default_factory=dict)
    value: dict[str, float] = field(default_factory=dict)
    least: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read what is recorded, and walk the graph once."""
        proto = self.graph.proto
        for info in [*proto.value_info, *proto.input, *proto.output]:
            if info.type.tensor_type.HasField("shape"):
                dims = info.type.tensor_type.shape.dim
                self.shapes[info.name] = tuple(d.dim_param or d.dim_value or "" for d in dims)
        given = {info.name for info in proto.input}
        for name, tensor in self.graph.initializers.items():
            self.shapes[name] = tuple(tensor.dims)
            if name not in given and 0 < np.prod(tensor.dims, dtype=int) <= _SMALL:
                self._read(name)
        for node in proto.node:
            self._walk(node)

    def same_shape(self, first: str, second: str) -> bool:
        """Whether two values are known to have one shape."""
        shape = self.shapes.get(first)
        return shape is not None and shape == self.shapes.get(second) and "" not in shape

    def is_all(self, name: str, number: float) -> bool:
        """Whether every element is this number."""
        return self.value.get(name) == number

    def _read(self, name: str) -> None:
        array = self.graph.array(name)
        if array is None or array.dtype.kind not in "biuf":
            return
        if (array == array.flat[0]).all():
            self._know(name, float(array.flat[0]))

    def _know(self, name: str, number: float) -> None:
        self.value[name] = self.least[name] = number

    def _walk(self, node: Any) -> None:
        if node.domain or not node.output:
            return
        out, ins = node.output[0], list(node.input)
        if node.op_type in _SAME and ins:
            self._pass_on(node, ins[0], out)
        elif node.op_type == "Range" and self.value.get(ins[2], 0) > 0 and ins[0] in self.value:
            self.least[out] = self.value[ins[0]]
        elif node.op_type in ("GreaterOrEqual", "Less") and ins[1] in self.value:
            if self.least.get(ins[0], -np.inf) >= self.value[ins[1]]:
                self._know(out, float(node.op_type == "GreaterOrEqual"))
        elif node.op_type == "ReduceSum" and self.least.get(ins[0], 0) > 0:
            self.least[out] = self.least[ins[0]]
        else:
            self._compute(node, out, [self.value.get(name) for name in ins])

    def _pass_on(self, node: Any, name: str, out: str) -> None:
        if node.op_type == "Cast" and name in self.value:
            to_bool = attributes(node).get("to") == 9
            self._know(out, float(self.value[name] != 0) if to_bool else self.value[name])
        elif node.op_type != "Cast" and name in self.least:
            self.least[out] = self.least[name]
            if name in self.value:
                self.value[out] = self.value[name]

    def _compute(self, node: Any, out: str, values: list[float | None]) -> None:
        known = [value for value in values if value is not None]
        if node.op_type == "And" and 0.0 in known:
            self._know(out, 0.0)
        elif not known or len(known) < len(values):
            return
        elif node.op_type == "And":
            self._know(out, 1.0)
        elif node.op_type == "Not":
            self._know(out, float(not known[0]))
        elif node.op_type == "Mul":
            self._know(out, known[0] * known[1])
