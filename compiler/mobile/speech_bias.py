"""T5's biases as a table of distances: its logarithms of distances are too coarse in float16."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class DistanceTable(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """What a layer of a decoder adds to scores, by how far behind a token a slot is."""

    def __init__(self, layer: Any, context: int) -> None:
        super().__init__()
        with torch.no_grad():
            row = layer.compute_bias(1, context, past_seen_tokens=context - 1)
        table = row[0, :, 0].flip(-1).transpose(0, 1).contiguous()
        self.register_buffer("table", table, persistent=False)
        for name, value in (("nothing", 0), ("last", context - 1)):
            self.register_buffer(name, torch.tensor([value], dtype=torch.int32), persistent=False)

    def forward(
        self, query_length: int, key_length: int, device: Any = None, past_seen_tokens: Any = 0
    ) -> torch.Tensor:
        """Return the biases (1, heads, queries, keys); those of slots ahead are never seen."""
        del device
        places = torch.arange(query_length, dtype=torch.int32) + past_seen_tokens
        behind = places[:, None] - torch.arange(key_length, dtype=torch.int32)[None]
        known = torch.minimum(torch.maximum(behind, self.nothing), self.last)
        return nn.functional.embedding(known, self.table).permute(2, 0, 1)[None]


def swap_biases(model: Any, context: int) -> None:
    """Put a `DistanceTable` in place of each such computation of a decoder's layer."""
    for layer in list(model.modules()):
        biased = getattr(layer, "has_relative_attention_bias", False)
        if biased and layer.is_decoder and not hasattr(layer, "distances"):
            layer.distances = DistanceTable(layer, context)
            # A class's method would be found before a module of its name.
            layer.__dict__["compute_bias"] = layer.distances
