"""What a decoder fused for ONNX Runtime takes beside the portable one.

A cache that stays where it is: the past's length comes from the mask, so that one buffer, longer
than what it holds, serves as past and as present. And `num_logits_to_keep`, as transformers.js
knows it: how many of the last tokens the head is computed for, 0 for all.
"""

from __future__ import annotations

from typing import Any

from edgeward.runtimes.tasks.cache_steps import SHARED_CACHE
from edgeward.runtimes.tasks.decoder import KEPT_LOGITS

_ATTENTION = "GroupQueryAttention"
_PAST_PLACES = (3, 4)
_PRODUCTS = frozenset({"MatMul", "FusedMatMul", "Gemm"})
_AFTER_HEAD = frozenset({"Add", "Cast", "Div", "Mul", "Tanh"})
_LAST = 2**63 - 1


def share_cache(program: Any) -> bool:
    """Let one buffer be past and present; False where something else reads the past's values."""
    graph = program.graph
    past = [value for value in graph.inputs if value.name.startswith("past_key_values.")]
    lengths = []
    for value in past:
        for node, place in value.uses():
            if _is_length(node):
                lengths.append(node)
            elif node.op_type != _ATTENTION or place not in _PAST_PLACES:
                return False
    tape = _tape(graph)
    inputs = {value.name: value for value in graph.inputs}
    total = tape.op("Shape", [inputs["attention_mask"]], attributes={"start": 1, "end": 2})
    new = tape.op("Shape", [inputs["input_ids"]], attributes={"start": 1, "end": 2})
    length = tape.op("Sub", [total, new])
    first = next(iter(graph))
    for made in tape.nodes:
        graph.insert_before(first, made)
    for node in lengths:
        _replace(graph, node, length)
    program.metadata_props[SHARED_CACHE] = "1"
    return True


def keep_logits(program: Any) -> bool:
    """Compute the head for the last tokens alone; False where no head is found."""
    import numpy as np
    import onnx_ir

    graph = program.graph
    head = _head(next(value for value in graph.outputs if value.name == "logits"))
    if head is None:
        return False
    kept = onnx_ir.Value(
        name=KEPT_LOGITS,
        type=onnx_ir.TensorType(onnx_ir.DataType.INT64),
        shape=onnx_ir.Shape([]),
    )
    graph.inputs.append(kept)
    tape = _tape(graph)

    def constant(name: str, value: list[int]) -> Any:
        return tape.initializer(onnx_ir.tensor(np.array(value, np.int64), name=f"kept_{name}"))

    column = tape.op("Unsqueeze", [kept, constant("zero", [0])])
    start = tape.op("Neg", [column])
    states = head.inputs[0]
    last = tape.op("Slice", [states, start, constant("end", [_LAST]), constant("axis", [1])])
    last.dtype = states.dtype
    for made in tape.nodes:
        graph.insert_before(head, made)
    head.replace_input_with(0, last)
    return True


def _is_length(node: Any) -> bool:
    start, end = node.attributes.get("start"), node.attributes.get("end")
    known = node.op_type == "Shape" and start is not None and end is not None
    return bool(known and start.as_int() == 2 and end.as_int() == 3)


def _head(logits: Any) -> Any:
    """The product by a constant that gives the logits, through what only scales them."""
    value = logits
    while True:
        node = value.producer()
        if node is None:
            return None
        if node.op_type in _PRODUCTS and _is_constant(node.inputs[1]):
            return node if len(node.inputs[0].shape or ()) == 3 else None
        computed = [v for v in node.inputs if v is not None and not _is_constant(v)]
        if node.op_type not in _AFTER_HEAD or len(computed) != 1:
            return None
        value = computed[0]


def _is_constant(value: Any) -> bool:
    return value is not None and value.const_value is not None


def _tape(graph: Any) -> Any:
    import onnx_ir

    return onnx_ir.tape.Tape(graph)


def _replace(graph: Any, node: Any, value: Any) -> None:
    import onnx_ir

    onnx_ir.convenience.replace_all_uses_with(node.outputs[0], value)
    graph.remove(node, safe=True)
