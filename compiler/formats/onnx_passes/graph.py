"""An ONNX graph in memory: its weights by name, who reads what, and how it is written back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INLINE_LIMIT_BYTES = 1_800_000_000
MICROSOFT = "com.microsoft"
_PRODUCTS = {("", "MatMul"), ("ai.onnx", "MatMul"), ("", "Gemm"), (MICROSOFT, "FusedMatMul")}
_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transBatchA": 0, "transBatchB": 0}
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant matrix of a product: `table` is [N, K] if `transposed`, else [K, N]."""

    name: str
    table: Array
    transposed: bool

    @property
    def rows(self) -> Array:
        """The matrix as [N, K], one row for each output channel; a view."""
        return self.table if self.transposed else self.table.T


class Graph:
    """A model read whole, weights beside it too if `beside`; its local functions are inlined."""

    def __init__(self, source: Path, *, beside: bool = True) -> None:
        import onnx
        import onnx.inliner

        model = onnx.load(source, load_external_data=beside)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        self.model = model
        self.proto = model.graph
        self.initializers: dict[str, Any] = {i.name: i for i in self.proto.initializer}
        self.captured = frozenset(_captured(self.proto))
        self.producers = {o: n for n in self.proto.node for o in n.output if o}
        self._lift_constants()
        self._taken = {*self.initializers, *self.producers, *(i.name for i in self.proto.input)}
        self._taken |= {node.name for node in self.proto.node}

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        return int(next(i.version for i in self.model.opset_import if i.domain in ("", "ai.onnx")))

    def array(self, name: str) -> Array | None:
        """Return the value of an initializer; None where the name is none."""
        from onnx import numpy_helper

        tensor = self.initializers.get(name)
        if tensor is None or name in {i.name for i in self.proto.input}:
            return None
        return np.asarray(numpy_helper.to_array(tensor))

    def weight(self, node: Any, kinds: Collection[str] = ("float32",)) -> Weight | None:
        """Return the constant 2-D matrix of a plain product; None where there is none."""
        if (node.domain, node.op_type) not in _PRODUCTS:
            return None
        given = attributes(node)
        if any(given.get(name, plain) != plain for name, plain in _PLAIN.items()):
            return None
        flipped = bool(given.get("transB", 0))
        name = node.input[1]
        before = self.producers.get(name)
        if before is not None and before.op_type == "Transpose":
            if list(attributes(before).get("perm", (1, 0))) != [1, 0]:
                return None
            name, flipped = before.input[0], not flipped
        table = self.array(name)
        if table is None or table.ndim != 2 or str(table.dtype) not in kinds:
            return None
        return Weight(name, table, flipped)

    def unique(self, stem: str) -> str:
        """Return a name that nothing has, beginning with `stem`."""
        name, count = stem, 0
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name

    def add(self, array: Array, stem: str) -> str:
        """Add an initializer and return its name."""
        from onnx import numpy_helper

        name = self.unique(stem)
        tensor = self.proto.initializer.add()
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
        self.initializers[name] = tensor
        return name

    def replace_nodes(self, nodes: Sequence[Any]) -> None:
        """Put these in place of all nodes, in this order."""
        kept = [_copy(node) for node in nodes]
        del self.proto.node[:]
        self.proto.node.extend(kept)
        self.producers = {o: n for n in self.proto.node for o in n.output if o}

    def readers(self) -> dict[str, list[tuple[int, int]]]:
        """Return who reads each value: (node's position, input's position)."""
        read: dict[str, list[tuple[int, int]]] = {}
        for position, node in enumerate(self.proto.node):
            for place, name in enumerate(node.input):
                read.setdefault(name, []).append((position, place))
        return read

    def use_domain(self, domain: str, version: int = 1) -> None:
        """Declare an operator domain, once."""
        if all(i.domain != domain for i in self.model.opset_import):
            self.model.opset_import.add(domain=domain, version=version)

    def save(self, target: Path) -> None:
        """Write it without what nothing reads; weights lie beside it where they are too many."""
        import onnx

        self.drop_unread()
        alive = {o for node in self.proto.node for o in node.output}
        infos = [info for info in self.proto.value_info if info.name in alive]
        del self.proto.value_info[:]
        self.proto.value_info.extend(infos)
        beside = f"{target.name}.data"
        (target.parent / beside).unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        # Protobuf cannot even count what is above 2 GB.
        if sum(len(tensor.raw_data) for tensor in self.proto.initializer) > INLINE_LIMIT_BYTES:
            onnx.save(self.model, target, save_as_external_data=True, location=beside)
            return
        onnx.save(self.model, target)

    def drop_unread(self) -> None:
        wanted = {o.name for o in self.proto.output} | self.captured
        kept = []
        for node in reversed(self.proto.node):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        if len(kept) < len(self.proto.node):
            self.replace_nodes(kept[::-1])
        inputs = {i.name for i in self.proto.input}
        for position in range(len(self.proto.initializer) - 1, -1, -1):
            name = self.proto.initializer[position].name
            if name not in wanted and name not in inputs:
                del self.proto.initializer[position]
                del self.initializers[name]

    def _lift_constants(self) -> None:
        """A Constant that holds a tensor is an initializer, so that there is one kind of weight."""
        kept = []
        for node in self.proto.node:
            value = attributes(node).get("value") if node.op_type == "Constant" else None
            if value is None:
                kept.append(node)
                continue
            tensor = self.proto.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
            self.initializers[tensor.name] = tensor
        if len(kept) < len(self.proto.node):
            self.replace_nodes(kept)


def attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node by name, as Python values."""
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def make(
    op: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    domain: str = "",
    given: Mapping[str, Any] | None = None,
) -> Any:
    """Return a node, named after its first output."""
    from onnx import helper

    name = f"{op}_{outputs[0]}"
    return helper.make_node(op, inputs, outputs, name=name, domain=domain, **(given or {}))


def size_of(path: Path) -> int:
    """Return the bytes of a model file and of the weights beside it."""
    beside = path.parent / f"{path.name}.data"
    return path.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)


def _captured(graph: Any) -> Iterator[str]:
    """The names that subgraphs read, which may be of the graph around them."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                for within in inner.node:
                    yield from within.input
                yield from (o.name for o in inner.output)
                yield from _captured(inner)


def _copy(node: Any) -> Any:
    import onnx

    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    return twin
