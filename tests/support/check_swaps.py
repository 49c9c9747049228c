"""Holds safe modules against the originals; run with a toolchain's Python. Prints JSON.

For each: the largest difference in float32, over the deviation, at several sizes of activations;
then with every operator's result rounded to float16, of the safe module and of the original's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from transformers.models.convnextv2.modeling_convnextv2 import ConvNextV2GRN
from transformers.models.deberta.modeling_deberta import DebertaLayerNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from edgeward.compiler.mobile.rewrites import Rewritten
from edgeward.compiler.mobile.swaps import made_safe

SIZES = (1e-3, 1.0, 40.0)
LARGE = 900.0
ROWS, PICTURES, CHANNELS_LAST = (3, 5, 32), (2, 32, 40, 40), (2, 40, 40, 32)
Made = Callable[[torch.Tensor], torch.Tensor]


class Float16(TorchDispatchMode):
    """Rounds what every operator gives to float16."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        return tree_map(_rounded, func(*args, **(kwargs or {})))


def _rounded(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
        return value
    return value.half().float()


class Normalised(nn.Module):
    """Vectors of length one."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Take rows."""
        return functional.normalize(rows, dim=-1)


class WrittenOut(nn.Module):
    """A mean square norm that no library has."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.randn(size)), 1e-6

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Take rows."""
        return (2 + self.weight) * rows * torch.rsqrt(rows.pow(2).mean(-1, keepdim=True) + self.eps)


class OwnRMSNorm(WrittenOut):
    """Named as such are."""


ORIGINALS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "rms norm": (LlamaRMSNorm(32), ROWS),
    "rms norm of one more than its weight": (OwnRMSNorm(32), ROWS),
    "layer norm written out": (DebertaLayerNorm(32), ROWS),
    "group norm": (nn.GroupNorm(4, 32), PICTURES),
    "response norm": (ConvNextV2GRN(32), CHANNELS_LAST),
    "unit length": (Normalised(), ROWS),
}


def main() -> None:
    """Print every figure."""
    torch.manual_seed(0)
    print(json.dumps({name: _figures(*original) for name, original in ORIGINALS.items()}))


def _figures(original: nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
    for parameter in original.parameters():
        nn.init.normal_(parameter, 1.0, 0.3)
    holder = nn.Sequential(original)
    generator = torch.Generator().manual_seed(1)
    given = torch.randn(shape, generator=generator)
    with torch.no_grad():
        wanted = [holder(given * size) for size in (*SIZES, LARGE)]
        with made_safe(holder) as replaced:
            exact = [_safely(holder, given * size) for size in SIZES]
            with Float16():
                safe = _safely(holder, given * LARGE)
        after = holder[0] is original
        with Float16():
            plain = holder(given * LARGE)
    return {
        "replaced": replaced,
        "restored": after,
        "float32": max(_difference(w, e) for w, e in zip(wanted, exact, strict=False)),
        "float16": _difference(wanted[-1], safe),
        "original in float16": _difference(wanted[-1], plain),
    }


def _safely(module: Made, given: torch.Tensor) -> torch.Tensor:
    with Rewritten():
        return module(given)


def _difference(wanted: torch.Tensor, found: torch.Tensor) -> float:
    if not found.isfinite().all():
        return 1e30
    return float((wanted - found).abs().max() / wanted.std())


if __name__ == "__main__":
    main()
