"""Fused attention of one sequence without padding: what masks only the future, the kernel masks.

ONNX Runtime's GroupQueryAttention (com.microsoft) is causal by itself. An exported graph hands it a
bias that hides the future once more, and guards rows that see nothing: both cost a decoder's step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import MICROSOFT, Array, Graph, attributes

_BIAS = 10
_TEXT_INPUTS = ("input_ids", "attention_mask", "position_ids")
# A window up to here shows in the cases: (new tokens, tokens before them).
_SHOWN = 300
_CASES = ((1, 0), (1, 1), (2, 0), (5, 3), (1, 37), (7, 64), (3, _SHOWN))
_HIDDEN = -1e4
_ENDLESS = 1 << 31
_NORMS = frozenset({"SkipSimplifiedLayerNormalization", "SkipLayerNormalization"})


@dataclass(frozen=True, slots=True)
class Lean:
    """What was left out: biases, guards and reshapes."""

    biases: int
    guards: int
    reshapes: int


def leave_causal_masks(graph: Graph) -> Lean:
    """Drop biases that hide the future alone, guards that never hold, reshapes to the same shape.

    A mask is known by its values at several lengths, and by holding no number that a longer
    window could be. The graph then takes an attention mask of ones alone.
    """
    masks = _Masks(graph)
    biases = [node for node in _attentions(graph) if len(node.input) > _BIAS and node.input[_BIAS]]
    guards = [node for node in graph.proto.node if node.op_type == "Where"]
    asked = {node.input[_BIAS] for node in biases} | {node.input[0] for node in guards}
    found = masks.values(sorted(name for name in asked if masks.is_mask(name)))
    plain = [node for node in biases if _is_causal(found.get(node.input[_BIAS], ()))]
    for node in plain:
        del node.input[_BIAS:]
        while node.input and not node.input[-1]:
            del node.input[-1]
    idle = [node for node in guards if _is_never(found.get(node.input[0], ()))]
    _skip(graph, {node.output[0]: node.input[2] for node in idle})
    _forget_statistics(graph)
    graph.drop_unread()
    return Lean(len(plain), len(idle), _drop_reshapes(graph))


def _attentions(graph: Graph) -> list[Any]:
    fused = (node for node in graph.proto.node if node.domain == MICROSOFT)
    return [node for node in fused if node.op_type == "GroupQueryAttention"]


class _Masks:
    """Values of a graph that are computed from its text inputs alone."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._inputs = {item.name: item for item in graph.proto.input}

    def is_mask(self, name: str) -> bool:
        """Whether it comes from the text inputs alone, and no constant on the way is a length."""
        nodes, leaves = self._cone(name)
        if not nodes or not leaves <= {*_TEXT_INPUTS, *self.graph.initializers}:
            return False
        return all(self._is_no_length(leaf) for leaf in leaves)

    def values(self, names: Sequence[str]) -> Mapping[str, list[Array]]:
        """Return what each is in every case."""
        import onnxruntime

        if not names:
            return {}
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 4
        model = self._piece(names).SerializeToString()
        session = onnxruntime.InferenceSession(model, settings, ["CPUExecutionProvider"])
        taken = [item.name for item in session.get_inputs()]
        runs = []
        for new, past in _CASES:
            given = {
                "input_ids": np.ones((1, new), np.int64),
                "attention_mask": np.ones((1, past + new), np.int64),
                "position_ids": np.arange(past, past + new)[None],
            }
            runs.append(session.run(list(names), {name: given[name] for name in taken}))
        return {name: [run[place] for run in runs] for place, name in enumerate(names)}

    def _is_no_length(self, name: str) -> bool:
        array = self.graph.array(name)
        if array is None or array.dtype.kind not in "iuf":
            return True
        values = array.astype(np.float64)
        if array.dtype.kind == "f":
            values = values[values > _HIDDEN]
        sizes = np.abs(values)
        return bool(((sizes < _SHOWN) | (sizes >= _ENDLESS)).all())

    def _cone(self, name: str) -> tuple[set[str], set[str]]:
        """The values that it is computed from, and what those begin with."""
        seen, leaves, waiting = set[str](), set[str](), [name]
        while waiting:
            one = waiting.pop()
            node = self.graph.producers.get(one)
            if node is None:
                leaves.add(one)
            elif one not in seen:
                seen.add(one)
                waiting += [before for before in node.input if before]
        return seen, leaves

    def _piece(self, names: Sequence[str]) -> Any:
        import onnx

        wanted, leaves = set[str](), set[str]()
        for name in names:
            seen, found = self._cone(name)
            wanted |= seen
            leaves |= found
        proto = self.graph.proto
        nodes = [node for node in proto.node if wanted.intersection(node.output)]
        piece = onnx.helper.make_graph(
            nodes,
            "masks",
            [self._inputs[name] for name in _TEXT_INPUTS if name in leaves],
            [onnx.ValueInfoProto(name=name) for name in names],
            [tensor for tensor in proto.initializer if tensor.name in leaves],
        )
        whole = self.graph.model
        return onnx.helper.make_model(
            piece, opset_imports=whole.opset_import, ir_version=whole.ir_version
        )


def _is_causal(cases: Sequence[Array]) -> bool:
    """Whether each case is 0 for what a token may see, its past and itself, and hides the rest."""
    if not cases:
        return False
    for (new, past), bias in zip(_CASES, cases, strict=True):
        seen = np.arange(past + new) <= np.arange(past, past + new)[:, None]
        if bias.dtype.kind != "f" or bias.shape[-2:] != seen.shape:
            return False
        if not ((bias == 0) == seen).all() or (bias > 0).any():
            return False
        if not (bias[~np.broadcast_to(seen, bias.shape)] <= _HIDDEN).all():
            return False
    return True


def _is_never(cases: Sequence[Array]) -> bool:
    return bool(cases) and not any(case.any() for case in cases)


def _skip(graph: Graph, instead: Mapping[str, str]) -> None:
    """Let whoever reads a value read another, unless the graph gives it."""
    given = {value.name for value in graph.proto.output} | graph.captured
    for node in graph.proto.node:
        for place, name in enumerate(node.input):
            while name in instead and name not in given:
                name = instead[name]
            node.input[place] = name


def _forget_statistics(graph: Graph) -> None:
    """Means and deviations that nobody reads are not computed."""
    read = {name for node in graph.proto.node for name in node.input}
    read |= {value.name for value in graph.proto.output} | graph.captured
    for node in graph.proto.node:
        if node.op_type not in _NORMS:
            continue
        for place in range(1, len(node.output)):
            if node.output[place] not in read:
                node.output[place] = ""
        while not node.output[-1]:
            del node.output[-1]


def _drop_reshapes(graph: Graph) -> int:
    """Of two reshapes the last counts; attention's own shape needs none."""
    widths = _attention_widths(graph)
    instead: dict[str, str] = {}
    for node in graph.proto.node:
        shape = graph.array(node.input[1]) if node.op_type == "Reshape" else None
        if shape is None or (0 in shape and not attributes(node).get("allowzero", 0)):
            continue
        source = _before_reshapes(graph, node)
        node.input[0] = source
        if source in widths and list(shape) == [1, -1, widths[source]]:
            instead[node.output[0]] = source
    _skip(graph, instead)
    graph.drop_unread()
    return len(instead)


def _before_reshapes(graph: Graph, node: Any) -> str:
    name = str(node.input[0])
    before = graph.producers.get(name)
    while before is not None and before.op_type == "Reshape":
        name = str(before.input[0])
        before = graph.producers.get(name)
    return name


def _attention_widths(graph: Graph) -> dict[str, int]:
    """What attention gives, [1, tokens, width], by name."""
    heads = {
        item.name: item.type.tensor_type.shape.dim[3].dim_value
        for item in graph.proto.input
        if item.name.startswith("past_key_values.")
    }
    found = {}
    for node in _attentions(graph):
        width = heads.get(node.input[4], 0) * attributes(node)["num_heads"]
        if width:
            found[node.output[0]] = int(width)
    return found
