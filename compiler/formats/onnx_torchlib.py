"""torchlib's table of functions, made once a process and not once an export.

Making it parses the source of five hundred functions: a second of work for every graph.
Source: torch 2.13.0, `onnx/_internal/exporter/_registration.py`, `ONNXRegistry.from_torchlib`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def kept_torchlib() -> Iterator[None]:
    """Give every exporter a copy of the kept table while it is held: an export adds to its own."""
    from torch.onnx._internal.exporter import _constants
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    whole = ONNXRegistry.__dict__["from_torchlib"]

    def from_torchlib(_cls: Any, opset_version: int = _constants.TORCHLIB_OPSET) -> Any:
        kept = _table(whole.__func__, opset_version)
        given = copy.copy(kept)
        given.functions = {target: list(found) for target, found in kept.functions.items()}
        return given

    ONNXRegistry.from_torchlib = classmethod(from_torchlib)
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = whole


@functools.cache
def _table(make: Any, opset_version: int) -> Any:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    return make(ONNXRegistry, opset_version)
