"""Rounds what flows into products to int8, as the Neural Engine of A17 Pro and M4 multiplies it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .coreml_moments import Flow, key_of


def round_inputs(program: Any, flows: Mapping[str, Flow]) -> int:
    """Put quantize and dequantize before each product that was calibrated; how many were.

    Runs before weights are rounded, while they are known by their numbers. Each product has a pair
    of its own: what else reads its input, a sum beside it, goes on reading it as it is.
    """
    count = 0
    for function in program.functions.values():
        for op in list(function.operations):
            flow = _flow_of(op, flows)
            if flow is None:
                continue
            given, rounded = op.x, _pair(function, op, flow)
            function.replace_uses_of_var_after_op(
                anchor_op=rounded.op,
                end_op=op,
                old_var=given,
                new_var=rounded,
                no_check_var_types=True,
            )
            count += 1
    return count


def _flow_of(op: Any, flows: Mapping[str, Flow]) -> Flow | None:
    if op.op_type not in ("linear", "conv"):
        return None
    value = op.weight.val
    if value is None:
        return None
    return flows.get(key_of(value.reshape(len(value), -1)))


def _pair(block: Any, op: Any, flow: Flow) -> Any:
    from coremltools.converters.mil import Builder as mb  # noqa: N813

    scale = np.float16(max(flow.step(), float(np.finfo(np.float16).tiny)))
    with block:
        rounded = mb.quantize(
            input=op.x, scale=scale, output_dtype="int8", before_op=op, name=f"{op.name}_int8"
        )
        return mb.dequantize(input=rounded, scale=scale, before_op=op, name=f"{op.name}_input")
