"""A text generator as a mobile engine runs it: some tokens behind a cache of slots."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from .decoder_cache import Slots, slot_cache
from .decoder_kinds import open_masks

# Rows that tell what an embedding does to them.
_TRIED = 64


class CachedDecoder(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """The model behind a cache that comes as inputs and goes as outputs."""

    def __init__(self, model: Any, tokens: int, context: int) -> None:
        super().__init__()
        self.model, self.slots = model, Slots(tokens, context)
        self._masks = open_masks(model, self.slots)
        self._places = "position_ids" in inspect.signature(model.forward).parameters
        # It gathers by positions, which torch does by wide numbers alone.
        self._wide = model.config.model_type == "gptj"

    def forward(
        self, input_ids: torch.Tensor, position: torch.Tensor, *states: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Run ids int32 (1, tokens) from slot `position` int32 (1,) on.

        `states` are keys and values in turn, float32 (1, heads, context, width). Returns logits
        (1, tokens, vocabulary) and the states with the new tokens in their slots.
        """
        ahead = self.slots.ahead(position)
        cache, layers = slot_cache(states, self.slots.written(ahead))
        places = self.slots.positions(position)
        given: dict[str, Any] = {"attention_mask": self._masks(ahead)}
        if self._places:
            given["position_ids"] = places.long() if self._wide else places
        found = self.model(
            input_ids=input_ids, past_key_values=cache, use_cache=True, return_dict=True, **given
        )
        kept = [state for layer in layers for state in (layer.keys, layer.values)]
        return (found.logits, *kept)


class StatefulDecoder(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """The model whose cache is two buffers (layers, heads, context, width), changed in place."""

    def __init__(self, inner: nn.Module, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.inner = inner
        shape = (layers, heads, int(inner.slots.slots.shape[0]), width)
        self.register_buffer("key_cache", torch.zeros(shape))
        self.register_buffer("value_cache", torch.zeros(shape))

    def forward(
        self, input_ids: torch.Tensor, position: torch.Tensor, *held: torch.Tensor
    ) -> torch.Tensor:
        """Run ids int32 (1, tokens) from slot `position` int32 (1,) on: (1, tokens, vocabulary)."""
        caches = (self.key_cache, self.value_cache)
        layers = range(self.key_cache.shape[0])
        states = [cache[number : number + 1] for number in layers for cache in caches]
        logits, *kept = self.inner(input_ids, position, *states, *held)
        for cache, new in zip(caches, (kept[::2], kept[1::2]), strict=True):
            cache.copy_(torch.cat(new))
        return logits


class SplitHead(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """A product with a large vocabulary, in pieces of so many columns, put together again."""

    def __init__(self, head: nn.Linear, columns: int) -> None:
        super().__init__()
        weights = head.weight.split(columns)
        biases = [None] * len(weights) if head.bias is None else head.bias.split(columns)
        self.pieces = nn.ModuleList(map(_linear, weights, biases))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return (…, vocabulary)."""
        return torch.cat([piece(states) for piece in self.pieces], dim=-1)


class SplitEmbedding(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """Look-ups in the pieces of a head that the embedding shares its weights with.

    Each piece is looked up in and multiplied with, so a file holds one copy of it. A token's row
    is that of its own piece and zeros from the others, which adds nothing.
    """

    def __init__(self, head: SplitHead, scale: float) -> None:
        super().__init__()
        self.pieces, self._scale = head.pieces, scale

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return (…, width) of ids int32 or int64 (…)."""
        rows, start = [], 0
        for piece in self.pieces:
            count = piece.weight.shape[0]
            place = ids - start
            inside = torch.minimum(
                torch.maximum(place, torch.zeros_like(place)), torch.full_like(place, count - 1)
            )
            shown = (place == inside)[..., None].to(piece.weight.dtype)
            rows.append(nn.functional.embedding(inside, piece.weight) * shown)
            start += count
        found = rows[0]
        for row in rows[1:]:
            found = found + row
        return found if self._scale == 1.0 else found * self._scale


def split_head(model: Any, columns: int) -> None:
    """Put a `SplitHead` in place of the model's head where its vocabulary has more columns.

    An embedding that is the same matrix looks up in its pieces.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if not isinstance(head, nn.Linear) or head.weight.shape[0] <= columns:
        return
    split = SplitHead(head, columns)
    _replace(model, head, split)
    scale = _scale(embedding, head.weight)
    if scale is not None:
        _replace(model, embedding, SplitEmbedding(split, scale))


def _scale(embedding: nn.Module, weight: torch.Tensor) -> float | None:
    """Return what an embedding multiplies a head's rows by, None where it has others."""
    own = getattr(embedding, "weight", None)
    if own is None or own.data_ptr() != weight.data_ptr() or own.shape != weight.shape:
        return None
    ids = torch.linspace(0, len(weight) - 1, _TRIED).long()
    scale = float(getattr(embedding, "embed_scale", 1.0))
    with torch.no_grad():
        alike = torch.allclose(embedding(ids), weight[ids] * scale, rtol=1e-6, atol=0.0)
    return scale if alike else None


def _replace(model: Any, old: nn.Module, new: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    piece = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    piece.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        piece.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return piece
