"""Values between a session and a TFLite graph, whose integers have a scale and a zero point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeward.errors import UsageError

from .base import Tensor


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a signature; `scale` is 0 where it is not quantised."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero: int = 0

    def fed(self, value: Tensor) -> Tensor:
        """Return an array in the graph's type; UsageError where it cannot be that."""
        array = np.asarray(value)
        if array.shape != self.shape:
            why = f"{self.name} is {list(array.shape)}, the graph's is {list(self.shape)}"
            raise UsageError("The inputs do not fit the model", why=why)
        if array.dtype == self.dtype:
            return np.ascontiguousarray(array)
        if self.scale and array.dtype.kind == "f":
            return self._rounded(array)
        if not _holds(array, self.dtype):
            why = f"{self.name} is {array.dtype}, the graph's is {self.dtype}"
            raise UsageError("The inputs do not fit the model", why=why)
        return np.ascontiguousarray(array, self.dtype)

    def told(self, value: Tensor) -> Tensor:
        """Return an output as people read it: float32 where the graph has integers for numbers."""
        if not self.scale or value.dtype.kind == "f":
            return value
        whole = value.astype(np.int32) - self.zero
        return np.asarray(whole * np.float32(self.scale), np.float32)

    def _rounded(self, array: Tensor) -> Tensor:
        limits = np.iinfo(self.dtype)
        whole = np.rint(np.asarray(array, np.float32) / np.float32(self.scale)) + self.zero
        clipped = np.clip(whole, limits.min, limits.max)
        return np.asarray(clipped, self.dtype)


def ports_of(details: Mapping[str, Mapping[str, Any]]) -> tuple[Port, ...]:
    """Return what a signature runner tells of its inputs or outputs."""
    return tuple(_port(name, told) for name, told in details.items())


def _port(name: str, told: Mapping[str, Any]) -> Port:
    stated = told["quantization_parameters"]
    scales, zeros = stated["scales"], stated["zero_points"]
    scale, zero = (float(scales[0]), int(zeros[0])) if len(scales) == 1 else (0.0, 0)
    return Port(name, tuple(int(n) for n in told["shape"]), np.dtype(told["dtype"]), scale, zero)


def _holds(array: Tensor, dtype: np.dtype[Any]) -> bool:
    """Whether a cast keeps what the values mean: ids to int32, floats among themselves."""
    if array.dtype.kind == "f" and dtype.kind == "f":
        return True
    if array.dtype.kind not in "iub":
        return False
    if dtype.kind == "f":
        return True
    if dtype.kind not in "iu" or not array.size:
        return dtype.kind == "b" and array.dtype.kind == "b"
    limits = np.iinfo(dtype)
    return bool(limits.min <= array.min() and array.max() <= limits.max)
