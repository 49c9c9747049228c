"""Whether TensorRT's parser takes a graph as a strongly typed network: from the graph alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .graph import Graph, attributes
from .tensorrt_operators import (
    ATTRIBUTES,
    BORDER,
    CONSTANT_PLACE,
    OPERATORS,
    OPSET_MAX,
    OPSET_MIN,
    OUTPUTS,
    QUANTISED,
    TYPED_PLACE,
    UNDILATED,
)
from .types import Typed, same_type

_STANDARD = ("", "ai.onnx")
_QDQ = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is not taken: a node by its name and operator, or the graph's border, and why."""

    where: str
    why: str

    def __str__(self) -> str:
        """Say both."""
        return f"{self.where}: {self.why}"


def problems_with(graph: Graph) -> list[Problem]:
    """Return all that TensorRT 10.3 would refuse; operators first, types once those are known."""
    return operators_unknown(graph) or [*_borders(graph), *_types(graph)]


def operators_unknown(graph: Graph) -> list[Problem]:
    """Return what it would refuse whatever the types: operators and their restrictions."""
    return [*_opset(graph), *_operators(graph.proto)]


def _opset(graph: Graph) -> Iterator[Problem]:
    if not OPSET_MIN <= graph.opset <= OPSET_MAX:
        yield Problem(
            "the graph", f"its operators are of set {graph.opset}, {OPSET_MIN} to {OPSET_MAX} are"
        )


def _operators(proto: Any) -> Iterator[Problem]:
    constants = {tensor.name for tensor in proto.initializer}
    constants |= {o for node in proto.node if node.op_type == "Constant" for o in node.output}
    for node in proto.node:
        if node.domain not in _STANDARD:
            yield _problem(node, f"operators of {node.domain} are another engine's")
        elif node.op_type not in OPERATORS:
            yield _problem(node, "the parser does not know this operator")
        else:
            yield from _restrictions(node, constants)
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _operators(inner)


def _restrictions(node: Any, constants: set[str]) -> Iterator[Problem]:
    place = CONSTANT_PLACE.get(node.op_type)
    if place is not None and _input(node, place) and _input(node, place) not in constants:
        yield _problem(node, f"{_input(node, place)} must be a constant")
    given = attributes(node)
    for name, taken in ATTRIBUTES.get(node.op_type, {}).items():
        if name in given and given[name] not in taken:
            yield _problem(node, f"{name} {_shown(given[name])} is not taken")
    if node.op_type in UNDILATED and any(step != 1 for step in given.get("dilations", ())):
        yield _problem(node, "pooling takes no dilations")
    if any(node.output[OUTPUTS.get(node.op_type, len(node.output)) :]):
        yield _problem(node, f"only its first output is taken, not {node.output[1]}")
    if node.op_type == "Pad" and _input(node, 3):
        yield _problem(node, "axes of a Pad came with TensorRT 10.4")
    if node.op_type == "Einsum" and b"." in given.get("equation", b""):
        yield _problem(node, "an ellipsis came with TensorRT 10.12")


def _borders(graph: Graph) -> Iterator[Problem]:
    for what, infos in (("input", graph.proto.input), ("output", graph.proto.output)):
        for info in infos:
            kind = _name(info.type.tensor_type.elem_type)
            if kind not in BORDER:
                yield Problem(f"the {what} {info.name}", f"its type is {kind}")


def _types(graph: Graph) -> Iterator[Problem]:
    typed = Typed(graph, "float16")
    for node in graph.proto.node:
        yield from _met(node, typed, graph.opset)
        if node.op_type in _QDQ:
            yield from _quantisation(node, graph, typed)
            continue
        place = TYPED_PLACE.get(node.op_type, 0)
        kind = _name(typed.types.get(_input(node, place), 0)) if place >= 0 else ""
        if kind and kind not in OPERATORS[node.op_type]:
            yield _problem(node, f"it does not take {kind}")


def _met(node: Any, typed: Typed, opset: int) -> Iterator[Problem]:
    """Strongly typed means that nothing is converted but by a Cast."""
    for names in same_type(node, opset):
        kinds = sorted({_name(typed.types.get(name, 0)) for name in names} - {""})
        if len(kinds) > 1:
            yield _problem(node, f"{' and '.join(kinds)} meet in it without a Cast")


def _quantisation(node: Any, graph: Graph, typed: Typed) -> Iterator[Problem]:
    """Symmetric int8 it is, and nothing but a DequantizeLinear reads it."""
    quantised = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
    zero = graph.array(_input(node, 2))
    kind = _name(typed.types.get(quantised, 0))
    if kind not in QUANTISED:
        yield _problem(node, f"its integers are {kind or 'of no known type'}, not int8")
    elif _input(node, 2) and (zero is None or zero.any()):
        yield _problem(node, "its zero point is not 0")
    if node.op_type == "QuantizeLinear":
        for position, _ in graph.readers().get(quantised, []):
            reader = graph.proto.node[position]
            if reader.op_type != "DequantizeLinear":
                yield _problem(reader, "it reads int8 that no DequantizeLinear restored")


def _problem(node: Any, why: str) -> Problem:
    name = node.name or next(iter(node.output), "")
    return Problem(f"{node.op_type} {name}".strip(), why)


def _input(node: Any, place: int) -> str:
    return str(node.input[place]) if place < len(node.input) else ""


def _name(number: int) -> str:
    """`float16` of an element type; nothing for what is not known."""
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(number)).lower() if number else ""


def _shown(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
