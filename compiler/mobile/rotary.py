"""Rotary embeddings as tables: sines and cosines of every position, looked up.

The model's own module computes them once, in float32, over all positions: angles of thousands are
no float16 numbers, and its way of scaling them need not be known here.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from edgeward.errors import UnsupportedError

_NAMES = re.compile(r"Rotary|RoPE")


class RotaryTable(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """What a rotary module returns for given positions, of each kind of layer it knows."""

    def __init__(self, tables: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
        super().__init__()
        self.kinds = {kind: f"{number}" for number, kind in enumerate(tables)}
        for kind, (cosines, sines) in tables.items():
            self.register_buffer(f"cosines_{self.kinds[kind]}", cosines, persistent=False)
            self.register_buffer(f"sines_{self.kinds[kind]}", sines, persistent=False)

    def forward(
        self, x: torch.Tensor, position_ids: torch.Tensor, layer_type: str = ""
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines (1, tokens, width) for int positions (1, tokens)."""
        number = self.kinds[layer_type or ""]
        cosines, sines = getattr(self, f"cosines_{number}"), getattr(self, f"sines_{number}")
        looked_up = nn.functional.embedding
        return looked_up(position_ids, cosines), looked_up(position_ids, sines)


def swap_rotary(model: Any, positions: int) -> int:
    """Put a `RotaryTable` of that many positions in place of each rotary module; how many were.

    Raises UnsupportedError where the angles depend on how long the text is by then.
    """
    found = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if _NAMES.search(type(child).__name__) and not isinstance(child, RotaryTable):
                setattr(parent, name, _table(child, positions))
                found += 1
    return found


def _table(rotary: nn.Module, positions: int) -> RotaryTable:
    kinds = [""]
    if getattr(rotary, "layer_types", None):
        kinds = sorted(set(rotary.layer_types))
    return RotaryTable({kind: _computed(rotary, positions, kind) for kind in kinds})


def _computed(rotary: nn.Module, positions: int, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    named = {"layer_type": kind} if kind else {}
    anything = torch.zeros((1, 1, 1))
    places = torch.arange(positions)[None]
    with torch.no_grad():
        # Two of them: the first position has no angle.
        first = rotary(anything, places[:, :2], **named)
        found = rotary(anything, places, **named)
        if not all(torch.allclose(a[:, :2], b) for a, b in zip(found, first, strict=True)):
            raise UnsupportedError(
                f"The rotary embedding of {positions} positions depends on the text's length",
                why="its scaling changes what earlier tokens were given; a shorter context is read "
                "with one table",
            )
    cosines, sines = found
    return cosines[0].contiguous(), sines[0].contiguous()
