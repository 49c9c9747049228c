"""Layers on rows: [B, S, K] stays [B * S, K] from one product to the next, biases inside Gemm."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .facts import Facts
from .graph import Graph, attributes, make
from .linear import Linear, linear_at

_UNARY = frozenset(
    {"Gelu", "Relu", "Tanh", "Sigmoid", "Erf", "Elu", "LeakyRelu", "HardSwish", "HardSigmoid"}
)
_BINARY = frozenset({"Add", "Mul", "Sub", "Div"})


@dataclass(slots=True)
class Rows:
    """Puts a graph's layers on rows; `sums` writes a residual before a norm as Sum.

    ONNX Runtime's processor kernel for the fused pair of Add and LayerNormalization is several
    times slower than Sum and LayerNormalization, which it leaves alone.
    """

    graph: Graph
    facts: Facts
    sums: bool = True
    layers: int = 0
    _flat: dict[str, str] = field(default_factory=dict)
    _leading: dict[str, str] = field(default_factory=dict)
    _shapes: dict[tuple[str, int], str] = field(default_factory=dict)
    _whole: set[str] = field(default_factory=set)
    _layers: dict[str, Linear] = field(default_factory=dict)
    _inner: set[str] = field(default_factory=set)
    _normed: set[str] = field(default_factory=set)
    _out: list[Any] = field(default_factory=list)

    def run(self) -> None:
        """Rewrite the whole graph."""
        proto = self.graph.proto
        self._find_layers()
        for node in proto.node:
            if not (self._inner.intersection(node.output) or self._rewrite(node)):
                self._keep(node)
        for name in [*(o.name for o in proto.output), *sorted(self.graph.captured)]:
            self._restore(name)
        self.graph.replace_nodes(self._out)

    def _find_layers(self) -> None:
        readers: dict[str, int] = {}
        for node in self.graph.proto.node:
            for name in node.input:
                readers[name] = readers.get(name, 0) + 1
            if node.op_type == "LayerNormalization":
                self._normed.add(node.input[0])
        outputs = {o.name for o in self.graph.proto.output} | self.graph.captured
        for node in self.graph.proto.node:
            linear = linear_at(self.graph, node.output[0]) if node.output else None
            if linear is None or len(self._shape(linear.product.input[0])) < 3:
                continue
            middle = linear.product.output[0]
            if linear.bias is None:
                self._layers.setdefault(middle, linear)
            elif readers[middle] == 1 and middle not in outputs:
                self._layers[linear.out] = linear
                self._inner.add(middle)

    def _rewrite(self, node: Any) -> bool:
        if node.domain or not node.output:
            return False
        linear = self._layers.get(node.output[0])
        if linear is not None:
            return self._layer(node, linear)
        if node.op_type in _UNARY and len(node.input) == 1:
            return node.input[0] in self._flat and self._same(node, [node.input[0]])
        if node.op_type == "LayerNormalization":
            return self._norm(node)
        return node.op_type in _BINARY and self._binary(node)

    def _layer(self, node: Any, linear: Linear) -> bool:
        product = linear.product
        source = self._rows(product.input[0])
        if source is None:
            self._inner.discard(product.output[0])
            if linear.bias is not None:
                self._keep(product)
            return False
        bias = [] if linear.bias is None else [linear.bias.input[linear.place]]
        name = self.graph.unique(f"{node.output[0]}_rows")
        gemm = make("Gemm", [source, product.input[1], *bias], [name])
        gemm.metadata_props.extend(node.metadata_props)
        self._out.append(gemm)
        self._put(node.output[0], name, product.input[0])
        self.layers += 1
        return True

    def _norm(self, node: Any) -> bool:
        if attributes(node).get("axis", -1) != -1 and attributes(node)["axis"] != (
            len(self._shape(node.input[0])) - 1
        ):
            return False
        if node.input[0] not in self._flat or any(node.output[1:]):
            return False
        self._same(node, [node.input[0]])
        for attribute in self._out[-1].attribute:
            if attribute.name == "axis":
                attribute.i = -1
        return True

    def _binary(self, node: Any) -> bool:
        wide = [name for name in node.input if name in self._flat]
        out = node.output[0]
        others = [name for name in node.input if name not in self._flat]
        if not wide or any(not self.facts.same_shape(name, out) for name in wide):
            return False
        for name in others:
            shape = self._shape(name)
            constant = name in self.graph.initializers and len(shape) <= 1
            if not constant and not self.facts.same_shape(name, out):
                return False
        self._same(node, [n for n in node.input if len(self._shape(n)) > 1])
        if self.sums and node.op_type == "Add" and out in self._normed and len(others) < 2:
            self._out[-1].op_type = "Sum"
        return True

    def _same(self, node: Any, wide: list[str]) -> bool:
        """The node as it is, on rows."""
        origin = next(name for name in wide if name in self._flat)
        ins = [(self._rows(name) or name) if name in wide else name for name in node.input]
        name = self.graph.unique(f"{node.output[0]}_rows")
        twin = _copy(node)
        del twin.input[:], twin.output[:]
        twin.input.extend(ins)
        twin.output.append(name)
        self._out.append(twin)
        self._put(node.output[0], name, origin)
        return True

    def _put(self, name: str, rows: str, origin: str) -> None:
        self._flat[name] = rows
        self._leading[name] = self._leading[origin]

    def _rows(self, name: str) -> str | None:
        """The value as rows; a Reshape makes them where nothing has yet."""
        if name in self._flat:
            return self._flat[name]
        width = self._shape(name)[-1]
        if not isinstance(width, int) or width <= 0:
            return None
        source, leading = name, name
        before = self.graph.producers.get(name)
        if before is not None and before.op_type == "Reshape" and self._absolute(before):
            source, leading = before.input[0], f"={before.input[1]}"
            self._restore(source)
        rows = self.graph.unique(f"{name}_rows")
        shape = self._constant((-1, width))
        self._out.append(make("Reshape", [source, shape], [rows]))
        self._flat[name], self._leading[name] = rows, leading
        if source == name:
            self._whole.add(name)
        return rows

    def _restore(self, name: str) -> None:
        """Give a value that lives on rows its own shape again, under its own name."""
        if name not in self._flat or name in self._whole:
            return
        self._whole.add(name)
        made = self.graph.producers.get(name)
        if made is not None and any(made is node for node in self._out):
            return
        shape = self._full_shape(self._leading[name], int(self._shape(name)[-1]))
        node = make("Reshape", [self._flat[name], shape], [name], given={"allowzero": 1})
        self._out.append(node)

    def _full_shape(self, leading: str, width: int) -> str:
        key = (leading, width)
        if key not in self._shapes:
            first, last = self.graph.unique("leading"), self._constant((width,))
            if leading.startswith("="):
                ends = [self._constant((n,)) for n in (0, -1)]
                self._out.append(make("Slice", [leading[1:], *ends], [first]))
            else:
                self._out.append(make("Shape", [leading], [first], given={"start": 0, "end": -1}))
            self._shapes[key] = self.graph.unique("full_shape")
            node = make("Concat", [first, last], [self._shapes[key]], given={"axis": 0})
            self._out.append(node)
        return self._shapes[key]

    def _keep(self, node: Any) -> None:
        """A node that stays: what it reads of rows is given back its shape, save to a Reshape."""
        through = node.op_type == "Reshape" and node.input[0] in self._flat
        if through and self._absolute(node):
            node.input[0] = self._flat[node.input[0]]
        for name in node.input:
            self._restore(name)
        self._out.append(node)

    def _absolute(self, reshape: Any) -> bool:
        """Whether its shape copies no size from what it reads."""
        if attributes(reshape).get("allowzero", 0):
            return True
        shape = self.graph.array(reshape.input[1])
        return shape is not None and bool((shape != 0).all())

    def _constant(self, values: tuple[int, ...]) -> str:
        name = "shape_" + "_".join(str(v).replace("-", "m") for v in values)
        if name not in self.graph.initializers:
            return self.graph.add(np.array(values, np.int64), name)
        return name

    def _shape(self, name: str) -> tuple[int | str, ...]:
        return self.facts.shapes.get(name, ())


def _copy(node: Any) -> Any:
    import onnx

    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    return twin
