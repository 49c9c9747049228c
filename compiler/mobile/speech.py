"""An encoder and a decoder for mobile engines: Whisper, and what reads a text and writes another.

The encoder gives the keys and values that the decoder's layers look back at, as the ONNX form does
(`compiler/formats/onnx_sequences.py`); the decoder takes them beside its own cache of slots.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeward.compiler.sequence_sources import open_sources
from edgeward.compiler.tasks import TaskSpec, task_spec
from edgeward.errors import UnsupportedError, UsageError

from .decoder import CachedFront, cached_front
from .decoder_cache import Slots, slot_cache
from .decoder_module import split_head
from .front import HIDDEN, Front
from .norms import swap_norms
from .refused import REFUSED_WRITERS
from .speech_bias import swap_biases

CROSSED = ("present.{}.encoder.key", "present.{}.encoder.value")
SOURCE_MASK = "encoder_attention_mask"
_POSITIONS = "decoder_position_ids"
# They check that a mask has a row for each token.
_SQUARE = frozenset({"mvp"})


@dataclass(frozen=True, slots=True)
class WriterFronts:
    """The encoder's front end, and the decoder's by how many tokens a call has."""

    encoder: Front
    decoders: Mapping[int, CachedFront]


def open_writer_fronts(
    task: str,
    folder: Path,
    model: Any,
    sizes: Mapping[str, int],
    *,
    tokens: Sequence[int],
    context: int,
    stateful: bool,
    head_split: int | None = None,
) -> WriterFronts:
    """Return the front ends of a loaded model, which is changed.

    `sizes` has the `sequence` that a text is read in; a sound has the length that the model hears.
    The encoder takes `input_features` float32, or `input_ids` and `attention_mask` int32. Raises
    UsageError for a context longer than the model's, UnsupportedError for what has no such form.
    """
    spec = task_spec(task)
    kind = model.config.model_type
    if kind in REFUSED_WRITERS:
        raise UnsupportedError(f"{kind} has no form for mobile engines", why=REFUSED_WRITERS[kind])
    _check_context(model, context)
    model.set_attn_implementation("eager")
    swap_norms(model)
    swap_biases(model, context)
    if head_split is not None:
        split_head(model, head_split)
    given = _example(spec, folder, model, sizes)
    reader = Reader(model, tuple(given)).eval()
    with torch.no_grad():
        crossed = reader(*given.values())
    names = [name.format(number) for number in range(len(crossed) // 2) for name in CROSSED]
    held = dict(zip(names, crossed, strict=True))
    if "attention_mask" in given:
        held[SOURCE_MASK] = given["attention_mask"]
    shapes = [(keys.shape[1], keys.shape[3]) for keys in crossed[::2]]
    decoders = {
        size: cached_front(
            Writer(model, size, context, len(shapes)), shapes, held, stateful=stateful
        )
        for size in tokens
    }
    axes = {name: {0: "batch"} for name in (*given, *names)}
    return WriterFronts(Front(reader, given, tuple(names), axes, {}), decoders)


class Reader(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """The encoder, and what each of the decoder's layers makes of its states."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return keys and values in turn, float32 (1, heads, read, width)."""
        from transformers import DynamicCache, EncoderDecoderCache

        named = dict(zip(self.names, tensors, strict=True))
        rows = tensors[0].shape[1] if self.model.config.model_type in _SQUARE else 1
        mask = _additive(named.get("attention_mask"), rows)
        # One token looks back, whatever the encoder's mask has rows for.
        crossed = {} if mask is None else {SOURCE_MASK: mask[:, :, :1]}
        masked = {} if mask is None else {"attention_mask": mask}
        states = self.model.get_encoder()(tensors[0], **masked).last_hidden_state
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        # What it writes is not read: only what it looks back at is kept.
        self.model.get_decoder()(
            input_ids=torch.zeros((1, 1), dtype=torch.int64),
            encoder_hidden_states=states,
            past_key_values=cache,
            use_cache=True,
            attention_mask=torch.zeros((1, 1, 1, 1)),
            **crossed,
        )
        layers = cache.cross_attention_cache.layers
        return tuple(state for layer in layers for state in (layer.keys, layer.values))


class Writer(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """The decoder and its head behind a cache of slots and what the encoder gave."""

    def __init__(self, model: Any, tokens: int, context: int, layers: int) -> None:
        super().__init__()
        self.model, self.slots, self._layers = model, Slots(tokens, context), layers
        self._places = _POSITIONS in inspect.signature(model.forward).parameters

    def forward(
        self, input_ids: torch.Tensor, position: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Run ids int32 (1, tokens) from slot `position` int32 (1,) on.

        `tensors` are the cache's states, then what is held. Returns logits (1, tokens, vocabulary)
        and the states with the new tokens in their slots.
        """
        from transformers import EncoderDecoderCache
        from transformers.modeling_outputs import BaseModelOutput

        count = 2 * self._layers
        states, crossed, masks = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        ahead = self.slots.ahead(position)
        written = self.slots.written(ahead)
        own, layers = slot_cache(states, written, 0 if self._places else position[0])
        read, _ = slot_cache(crossed, written)
        cache = EncoderDecoderCache(own, read)
        cache.is_updated = dict.fromkeys(range(self._layers), True)
        unread = torch.zeros((1, crossed[0].shape[2], self.model.config.d_model))
        given: dict[str, Any] = {"decoder_attention_mask": self.slots.hidden(ahead)}
        if self._places:
            given[_POSITIONS] = self.slots.positions(position)
        if masks:
            square = self.model.config.model_type in _SQUARE
            given["attention_mask"] = _additive(masks[0], input_ids.shape[1] if square else 1)
        found = self.model(
            decoder_input_ids=input_ids,
            encoder_outputs=BaseModelOutput(last_hidden_state=unread),
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
            **given,
        )
        kept = [state for layer in layers for state in (layer.keys, layer.values)]
        return (found.logits, *kept)


def _additive(mask: torch.Tensor | None, rows: int) -> torch.Tensor | None:
    if mask is None:
        return None
    hidden = ((1.0 - mask.to(torch.float32)) * HIDDEN)[:, None, None, :]
    return hidden.expand(-1, -1, rows, -1)


def _example(
    spec: TaskSpec, folder: Path, model: Any, sizes: Mapping[str, int]
) -> dict[str, torch.Tensor]:
    if spec.modality == "speech":
        (features,) = open_sources(spec.modality, folder, model).traced().values()
        return {"input_features": features[:1].contiguous()}
    if "sequence" not in sizes:
        raise UsageError("A text is read in a fixed length", next="--shapes sequence=128")
    ones = torch.ones((1, sizes["sequence"]), dtype=torch.int32)
    return {"input_ids": ones, "attention_mask": ones.clone()}


def _check_context(model: Any, context: int) -> None:
    config = model.config
    stated = ("max_target_positions", "max_position_embeddings")
    limits = [getattr(config, name, None) for name in stated]
    most = next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)
    if context < 1 or (most is not None and context > most):
        raise UsageError(f"A context of {context} tokens is none of the model's", why=f"{most}")
