"""A cache of fixed length for transformers' decoders: tokens are written into their slots.

Writing and hiding are sums and products of small whole numbers: exact in float16, and no operator
that a mobile engine lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, CacheLayerMixin

from .front import HIDDEN


class Slots(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """Where `tokens` new tokens stand among `context` slots."""

    def __init__(self, tokens: int, context: int) -> None:
        super().__init__()
        whole = {"slots": torch.arange(context), "steps": torch.arange(tokens)}
        whole |= {
            "nothing": torch.zeros(1),
            "one": torch.ones(1),
            "last": torch.tensor(context - 1),
        }
        for name, value in whole.items():
            self.register_buffer(name, value.to(torch.int32), persistent=False)

    def positions(self, position: torch.Tensor) -> torch.Tensor:
        """Return the tokens' positions, int32 (1, tokens); those past the end stay at the last."""
        return torch.minimum(position + self.steps, self.last)[None]

    def ahead(self, position: torch.Tensor) -> torch.Tensor:
        """Return how far each slot is ahead of each token, int32 (tokens, context)."""
        return self.slots[None] - (position + self.steps)[:, None]

    def hidden(self, ahead: torch.Tensor, window: int | None = None) -> torch.Tensor:
        """Return what is added to scores, float32 (1, 1, tokens, context).

        A token sees its own slot and those before it, of a window only the last.
        """
        future = torch.minimum(torch.maximum(ahead, self.nothing), self.one)
        if window is not None:
            left = 1 - window - ahead
            future = future + torch.minimum(torch.maximum(left, self.nothing), self.one)
        return (future.to(torch.float32) * HIDDEN)[None, None]

    def written(self, ahead: torch.Tensor) -> torch.Tensor:
        """Return 1 where a token's slot is, float32 (tokens, context); nowhere past the end."""
        away = torch.maximum(ahead, -ahead)
        return (self.one - torch.minimum(away, self.one)).to(torch.float32)


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is not typed
    """A layer's keys and values (1, heads, context, width), the new ones written by `written`.

    `seen` is what a model that counts positions by itself is told to begin with.
    """

    is_compileable = False
    is_sliding = False

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, written: torch.Tensor, seen: Any = 0
    ) -> None:
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True
        self._seen = seen
        self._tokens = written.transpose(0, 1)
        self._kept = 1.0 - written.sum(0)[:, None]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write (1, heads, tokens, width) into their slots; return all slots."""
        self.keys = self._write(self.keys, key_states)
        self.values = self._write(self.values, value_states)
        return self.keys, self.values

    def _write(self, cache: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        if new.shape[2] == 1:
            return cache * self._kept + self._tokens * new
        return cache * self._kept + torch.matmul(self._tokens, new)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing is left to do: the slots are there."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many slots there are; masks are not made from it."""
        return self.keys.shape[2], 0

    def get_seq_length(self) -> Any:
        """Return where counting begins: 0 where positions are given."""
        return self._seen

    def get_max_length(self) -> int:
        """Return how many slots there are."""
        return int(self.keys.shape[2])


def slot_cache(
    states: Sequence[torch.Tensor], written: torch.Tensor, seen: Any = 0
) -> tuple[Cache, list[SlotLayer]]:
    """Return a cache of keys and values in turn, layer after layer, and its layers."""
    pairs = zip(states[::2], states[1::2], strict=True)
    layers = [SlotLayer(keys, values, written, seen) for keys, values in pairs]
    return Cache(layers=list(layers)), layers


def kept_shapes(run: Any) -> list[tuple[int, int]]:
    """Return heads and width of each layer's keys, as `run` fills a cache of transformers' own.

    `run` takes the cache and runs the model on a token.
    """
    from transformers import DynamicCache

    cache = DynamicCache()
    with torch.no_grad():
        run(cache)
    return [(layer.keys.shape[1], layer.keys.shape[3]) for layer in cache.layers]
