"""Calls that are made in another way while a model is traced; the value stays the same.

Masks of bool become floats of zero and one, what hides by the least float32 hides by a number that
float16 has, and lengths of vectors are taken after a division by their largest value, so that no
square overflows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .front import HIDDEN

_LEAST = 2.0**-14


def normalised(
    given: torch.Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None
) -> torch.Tensor:
    """Return vectors of length one, as `functional.normalize`."""
    del out
    if p != 2.0:
        return functional.normalize(given, p, dim, eps)
    largest = given.abs().amax(dim, keepdim=True).clamp(min=_LEAST)
    scaled = given / largest
    return scaled / (scaled * scaled).sum(dim, keepdim=True).sqrt().clamp(min=1e-3)


def _visible(mask: torch.Tensor) -> torch.Tensor:
    return mask if mask.is_floating_point() else mask.bool()


def _inverted(mask: torch.Tensor) -> torch.Tensor:
    return 1.0 - mask if mask.is_floating_point() else ~mask


def _filled(scores: torch.Tensor, mask: torch.Tensor, value: Any) -> torch.Tensor:
    if not mask.is_floating_point():
        return scores.masked_fill(mask, max(value, HIDDEN) if isinstance(value, float) else value)
    if value < HIDDEN:
        return scores + mask * HIDDEN
    return scores * (1.0 - mask) + mask * value


def _filled_in_place(scores: torch.Tensor, mask: torch.Tensor, value: Any) -> torch.Tensor:
    return scores.copy_(_filled(scores, mask, value))


_INSTEAD: dict[Any, Callable[..., torch.Tensor]] = {
    functional.normalize: normalised,
    torch.Tensor.bool: _visible,
    torch.Tensor.__invert__: _inverted,
    torch.Tensor.masked_fill: _filled,
    torch.Tensor.masked_fill_: _filled_in_place,
}


class Rewritten(TorchFunctionMode):
    """Makes the calls of `_INSTEAD` in their safe way."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the replacement where there is one."""
        del types
        return _INSTEAD.get(func, func)(*args, **(kwargs or {}))
