"""Symbolic dimensions made numbers, and what became constant by it worked out beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeward.errors import StageError, UnsupportedError, UsageError

from .graph import MICROSOFT, Array, Graph, attributes

_STANDARD = ("", "ai.onnx")
_MOST_ELEMENTS = 1 << 18
# Rounding belongs to the artifact; chance and what reads a subgraph are not worked out.
_KEPT = frozenset(
    {
        *("DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "If", "Loop", "Scan"),
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli"),
        *("Multinomial", "Dropout"),
    }
)
Shape = tuple[int | None, ...]


def fix_axes(graph: Graph, sizes: Mapping[str, int]) -> dict[str, int]:
    """Give the named axes of the inputs these sizes and fold; the graph is changed in place.

    Returns the number of nodes folded. Raises UsageError for an axis that no input has,
    UnsupportedError where a shape would still depend on values.
    """
    work = _Fixing(graph, sizes)
    work.fix()
    while work.fold():
        pass
    work.settle()
    return {"folded": work.folded}


@dataclass(slots=True)
class _Fixing:
    graph: Graph
    sizes: Mapping[str, int]
    folded: int = 0
    shapes: dict[str, Shape] = field(default_factory=dict)

    def fix(self) -> None:
        """Put the numbers into the inputs, and forget what was known with symbols."""
        proto = self.graph.proto
        found: set[str] = set()
        for info in proto.input:
            for dim in info.type.tensor_type.shape.dim:
                if dim.HasField("dim_value"):
                    continue
                if dim.dim_param not in self.sizes:
                    raise UsageError(f"No size is given for {dim.dim_param} of {info.name}")
                found.add(dim.dim_param)
                dim.dim_value = self.sizes[dim.dim_param]
        if unknown := sorted(set(self.sizes) - found):
            raise UsageError(
                f"This model has no axis {unknown[0]!r}", why=f"its axes are {', '.join(found)}"
            )
        del proto.value_info[:]
        for info in proto.output:
            for dim in info.type.tensor_type.shape.dim:
                if not dim.HasField("dim_value"):
                    dim.Clear()

    def fold(self) -> bool:
        """Infer shapes and work out what they make constant; False where there was nothing."""
        self._infer()
        outputs = {info.name for info in self.graph.proto.output}
        kept, names = [], dict[str, str]()
        before = self.folded
        for node in self.graph.proto.node:
            for place, name in enumerate(node.input):
                node.input[place] = names.get(name, name)
            open_ = outputs.isdisjoint(node.output) and self.graph.captured.isdisjoint(node.output)
            if open_ and self._is_nothing(node):
                names[node.output[0]] = node.input[0]
                self.folded += 1
                continue
            values = self._values(node) if open_ else None
            if values is None:
                kept.append(node)
                continue
            for name, value in zip(filter(None, node.output), values, strict=True):
                self._hold(name, value)
            self.folded += 1
        if self.folded == before:
            return False
        self.graph.replace_nodes(kept)
        self.graph.drop_unread()
        return True

    def settle(self) -> None:
        """Record every value's shape; UnsupportedError where one is still unknown."""
        known = {*self.shapes, *self.graph.initializers}
        for node in self.graph.proto.node:
            for name in node.output:
                if name and (name not in known or None in self.shapes.get(name, ())):
                    raise UnsupportedError(
                        "This model cannot have fixed shapes",
                        why=f"the shape of {node.op_type}'s {name} is not known beforehand",
                    )

    def _infer(self) -> None:
        """Infer all shapes anew; what ONNX Runtime's own operators give is told by rules."""
        from onnx import helper, shape_inference

        proto = self.graph.proto
        told: list[Any] = []
        while True:
            del proto.value_info[:]
            proto.value_info.extend(told)
            try:
                model = shape_inference.infer_shapes(self.graph.model, data_prop=True)
            except shape_inference.InferenceError as error:
                why = str(error)[:500]
                raise StageError("The graph's shapes contradict themselves", why=why) from error
            infos = [*model.graph.value_info, *model.graph.input, *model.graph.output]
            self.shapes = {info.name: _shape(info) for info in infos if _is_shaped(info)}
            self.shapes |= {n: tuple(t.dims) for n, t in self.graph.initializers.items()}
            more = [one for node in proto.node for one in self._told(node)]
            if not more:
                break
            told += [helper.make_tensor_value_info(*one) for one in more]
        for held, found in (
            (proto.value_info, model.graph.value_info),
            (proto.output, model.graph.output),
        ):
            del held[:]
            held.extend(found)

    def _told(self, node: Any) -> list[tuple[str, int, tuple[int, ...]]]:
        """The output of a product or a table in blocks, once the shape of its input is known."""
        if node.domain != MICROSOFT or node.output[0] in self.shapes:
            return []
        given = attributes(node)
        read, scales = (0, 2) if node.op_type == "MatMulNBits" else (1, 2)
        shape = self.shapes.get(node.input[read])
        if shape is None or None in shape or len(node.input) <= scales:
            return []
        known = tuple(size for size in shape if size is not None)
        tensor = self.graph.initializers.get(node.input[scales])
        if node.op_type == "MatMulNBits" and tensor is not None:
            return [(node.output[0], tensor.data_type, (*known[:-1], given["N"]))]
        if node.op_type == "GatherBlockQuantized" and tensor is not None:
            width = tensor.dims[-1] * given["block_size"]
            return [(node.output[0], tensor.data_type, (*known, width))]
        return []

    def _is_nothing(self, node: Any) -> bool:
        """Whether it gives what it is given: spread to the shape that it has."""
        if node.domain not in _STANDARD or node.op_type not in ("Expand", "Identity"):
            return False
        if node.op_type == "Identity":
            return True
        shape = self.shapes.get(node.input[0])
        return shape is not None and None not in shape and shape == self.shapes.get(node.output[0])

    def _values(self, node: Any) -> list[Array] | None:
        """What a node gives whatever the model reads; None where that is not known."""
        if node.domain not in _STANDARD or node.op_type in _KEPT:
            return None
        if node.op_type in ("Shape", "Size"):
            return self._measured(node)
        if any(_elements(self.shapes.get(name)) > _MOST_ELEMENTS for name in node.output):
            return None
        given = {name: self._constant(name) for name in node.input if name}
        if any(value is None for value in given.values()):
            return None
        values = _evaluated(node, {n: v for n, v in given.items() if v is not None}, self.graph)
        small = values is not None and all(value.size <= _MOST_ELEMENTS for value in values)
        return values if small else None

    def _measured(self, node: Any) -> list[Array] | None:
        shape = self.shapes.get(node.input[0])
        if shape is None or None in shape:
            return None
        whole = np.array(shape, np.int64)
        if node.op_type == "Size":
            return [np.array(whole.prod(), np.int64)]
        given = attributes(node)
        return [whole[given.get("start", 0) : given.get("end", len(whole))]]

    def _constant(self, name: str) -> Array | None:
        """The value of an initializer that lies in the graph itself."""
        from onnx import TensorProto

        tensor = self.graph.initializers.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return self.graph.array(name)

    def _hold(self, name: str, value: Array) -> None:
        """Make a value an initializer under the name that its readers know."""
        from onnx import numpy_helper

        tensor = self.graph.proto.initializer.add()
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, order="C"), name))
        self.graph.initializers[name] = tensor
        self.shapes[name] = tuple(value.shape)


def _evaluated(node: Any, given: Mapping[str, Array], graph: Graph) -> list[Array] | None:
    """What ONNX Runtime makes of one node; None where it has no kernel for it."""
    import onnxruntime
    from onnx import helper

    inputs = [helper.make_tensor_value_info(name, _kind(v), v.shape) for name, v in given.items()]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    alone = helper.make_graph([node], "one", inputs, outputs)
    opset = helper.make_opsetid("", graph.opset)
    model = helper.make_model(alone, opset_imports=[opset], ir_version=graph.model.ir_version)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return [np.asarray(value) for value in session.run(None, dict(given))]
    except Exception:  # noqa: BLE001  the engine raises classes of its own
        return None


def _kind(value: Array) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(value.dtype))


def _is_shaped(info: Any) -> bool:
    return bool(info.type.tensor_type.HasField("shape"))


def _shape(info: Any) -> Shape:
    dims = info.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)


def _elements(shape: Shape | None) -> int:
    return int(np.prod([size or 0 for size in shape])) if shape is not None else 0
