"""Which values of a graph are floats, and where an operator lets a float be another float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from .graph import MICROSOFT, Graph, attributes

_STANDARD = ("", "ai.onnx")
# com.microsoft operators whose float inputs and outputs may all be half floats. ONNX Runtime's
# CPU provider has no half kernel for some: it casts around those itself.
_FREE = frozenset(
    {
        *("Attention", "BiasAdd", "BiasGelu", "BiasSoftmax", "BiasSplitGelu", "FastGelu", "Gelu"),
        *("EmbedLayerNormalization", "FusedConv", "FusedGemm", "FusedMatMul", "GemmFastGelu"),
        *("GatherBlockQuantized", "GroupQueryAttention", "MatMulNBits", "MultiHeadAttention"),
        *("QuickGelu", "RotaryEmbedding", "SimplifiedLayerNormalization", "SkipGroupNorm"),
        *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "TransposeMatMul"),
    }
)
# Their type is an attribute's or a value's, whatever they read.
_BY_ATTRIBUTE = {"Cast": "to", "EyeLike": "dtype", "RandomNormalLike": "dtype"}


@dataclass(frozen=True, slots=True)
class Ports:
    """One node's places that hold float32 now: `free` ones may be half, the others are fixed."""

    free_in: frozenset[int] = frozenset()
    fixed_in: frozenset[int] = frozenset()
    free_out: frozenset[int] = frozenset()
    fixed_out: frozenset[int] = frozenset()


@dataclass(slots=True)
class Typed:
    """The element types of a graph's values, worked out node by node, and each node's ports."""

    graph: Graph
    half: str
    types: dict[str, int] = field(default_factory=dict)
    ports: list[Ports] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Walk the graph once, in its order."""
        proto = self.graph.proto
        for info in [*proto.value_info, *proto.input, *proto.output]:
            self.types[info.name] = info.type.tensor_type.elem_type
        for name, tensor in self.graph.initializers.items():
            self.types[name] = tensor.data_type
        for node in proto.node:
            self._type_outputs(node)
            self.ports.append(self._ports(node))

    def is_float(self, name: str) -> bool:
        """Whether a value is float32."""
        from onnx import TensorProto

        return bool(name) and self.types.get(name) == TensorProto.FLOAT

    def _ports(self, node: Any) -> Ports:
        ins = {i for i, name in enumerate(node.input) if self.is_float(name)}
        outs = {i for i, name in enumerate(node.output) if self.is_float(name)}
        if node.domain == MICROSOFT:
            free_in, free_out = (ins, outs) if node.op_type in _FREE else (set(), set())
        elif node.domain in _STANDARD:
            schema = _schema(node.op_type, self.graph.opset, node.domain)
            free_in = {i for i in ins if _allows(schema, schema.inputs, i, self.half)}
            free_out = {i for i in outs if _allows(schema, schema.outputs, i, self.half)}
        else:
            free_in, free_out = set(), set()
        return Ports(
            frozenset(free_in),
            frozenset(ins - free_in),
            frozenset(free_out),
            frozenset(outs - free_out),
        )

    def _type_outputs(self, node: Any) -> None:
        for place, name in enumerate(node.output):
            if name and not self.types.get(name):
                self.types[name] = self._type_of(node, place)

    def _type_of(self, node: Any, place: int) -> int:
        """The type of an output; 0 where nothing tells, which is taken for no float."""
        from onnx import TensorProto

        given = attributes(node)
        if node.op_type in _BY_ATTRIBUTE and _BY_ATTRIBUTE[node.op_type] in given:
            return int(given[_BY_ATTRIBUTE[node.op_type]])
        if node.op_type == "ConstantOfShape":
            return int(given["value"].data_type) if "value" in given else int(TensorProto.FLOAT)
        if node.domain not in _STANDARD:
            floats = [self.types[i] for i in node.input if self.is_float(i)]
            return floats[0] if floats else 0
        schema = _schema(node.op_type, self.graph.opset, node.domain)
        wanted = _formal(schema.outputs, place).type_str
        for index, name in enumerate(node.input):
            if name and _formal(schema.inputs, index).type_str == wanted:
                return self.types.get(name, 0)
        allowed = _types_of(schema).get(wanted, (wanted,))
        return _element(allowed[0]) if len(allowed) == 1 else 0


def same_type(node: Any, opset: int) -> list[list[str]]:
    """Return the inputs of a standard operator that must be of one type, a list for each type."""
    schema = _schema(node.op_type, opset, node.domain)
    variables = {c.type_param_str for c in schema.type_constraints}
    groups: dict[str, list[str]] = {}
    for place, name in enumerate(node.input):
        formal = _formal(schema.inputs, place) if schema.inputs else None
        if name and formal is not None and formal.type_str in variables and formal.is_homogeneous:
            groups.setdefault(formal.type_str, []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _allows(schema: Any, formals: Any, place: int, half: str) -> bool:
    wanted = _formal(formals, place).type_str
    return f"tensor({half})" in _types_of(schema).get(wanted, ())


def _formal(formals: Any, place: int) -> Any:
    """The formal parameter of a place; the last one stands for all that follow it."""
    return formals[min(place, len(formals) - 1)]


def _types_of(schema: Any) -> Mapping[str, tuple[str, ...]]:
    return {c.type_param_str: tuple(c.allowed_type_strs) for c in schema.type_constraints}


def _element(written: str) -> int:
    """The number of `tensor(int64)`; 0 for what is no tensor."""
    from onnx import TensorProto

    name = written.removeprefix("tensor(").removesuffix(")").upper()
    return int(getattr(TensorProto, name, 0))


@cache
def _schema(op: str, opset: int, domain: str) -> Any:
    import onnx

    return onnx.defs.get_schema(op, opset, "" if domain == "ai.onnx" else domain)
