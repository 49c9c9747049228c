"""Values between operators: how MIL's types are held in torch, and what a handler is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

# torch knows no 16-bit unsigned arithmetic, and indices are never negative where MIL says uint16.
_HELD = {
    "fp16": torch.float32,
    "fp32": torch.float32,
    "fp64": torch.float64,
    "bool": torch.bool,
    # A classifier's probabilities, in the order of its classes.
    "dict": torch.float32,
    "int4": torch.int8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int64": torch.int64,
    "uint32": torch.int64,
    "uint1": torch.uint8,
    "uint2": torch.uint8,
    "uint3": torch.uint8,
    "uint4": torch.uint8,
    "uint6": torch.uint8,
    "uint8": torch.uint8,
}
_NUMPY = {
    "fp16": np.float16,
    "fp32": np.float32,
    "fp64": np.float64,
    "bool": np.bool_,
    "dict": np.float32,
}

# A tensor, a string, a list of either, or the cell of a state.
Value: TypeAlias = Any


def held_as(dtype: str) -> Any:
    """Return the torch dtype that holds a MIL dtype; float16 is held in float32."""
    return _HELD.get(dtype, torch.int32)


def numpy_dtype(dtype: str) -> Any:
    """Return the numpy dtype of a MIL dtype's name."""
    return np.dtype(_NUMPY.get(dtype, dtype))


@dataclass(slots=True)
class Cell:
    """What a state holds between two runs."""

    value: Any


@dataclass(frozen=True, slots=True)
class Args:
    """The inputs of one operator, each read as what the operator takes it for.

    `blocks` run the nested blocks of a control flow operator.
    """

    operator: str
    values: Mapping[str, Value]
    blocks: Sequence[Callable[[Sequence[Value]], Sequence[Value]]] = ()

    def has(self, name: str) -> bool:
        """Return whether an input is there."""
        return self.values.get(name) is not None

    def tensor(self, name: str) -> Any:
        """Return an input as a tensor."""
        return self.values[name]

    def maybe(self, name: str) -> Any:
        """Return an input as a tensor, None where it is left out."""
        return self.values.get(name)

    def tensors(self, name: str) -> list[Any]:
        """Return a list of tensors."""
        found = self.values[name]
        return list(found) if isinstance(found, (list, tuple)) else [found]

    def number(self, name: str, default: int = 0) -> int:
        """Return a whole number."""
        found = self.values.get(name)
        return default if found is None else int(found)

    def real(self, name: str, default: float = 0.0) -> float:
        """Return a float."""
        found = self.values.get(name)
        return default if found is None else float(found)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a bool."""
        found = self.values.get(name)
        return default if found is None else bool(found)

    def text(self, name: str, default: str = "") -> str:
        """Return a string."""
        found = self.values.get(name)
        return default if found is None else str(found)

    def numbers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """Return a list of whole numbers, computed or constant."""
        found = self.values.get(name)
        if found is None:
            return list(default)
        if isinstance(found, (list, tuple)):
            return [int(one) for one in found]
        return [int(one) for one in found.reshape(-1).tolist()]

    def flags(self, name: str, count: int) -> list[bool]:
        """Return a list of bools, all False where it is left out."""
        return [bool(one) for one in self.numbers(name, [0] * count)]
