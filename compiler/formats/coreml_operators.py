"""Operators of torch.export that coremltools 9.0 has no conversion of; runs inside `coreml`."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def register_operators() -> None:
    """Teach coremltools the operators that it lacks; the second call does nothing."""
    from coremltools.converters.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.frontend.torch import torch_op_registry

    known = torch_op_registry._TORCH_OPS_REGISTRY

    def alias(context: Any, node: Any) -> None:
        """Give a tensor another name."""
        context.add(mb.identity(x=context[node.inputs[0]], name=node.name))

    for name, function in {"alias": alias}.items():
        if name not in known:
            known.register_func(function)
