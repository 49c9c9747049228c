"""Text generators with a cache of fixed length, as TFLite and Core ML get them.

A call runs a fixed number of tokens behind those that the cache holds. The cache has a slot for
each position; what a padding token leaves behind the text is never seen and is written over by the
next call. The model itself is transformers' own, through its own interface of caches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgeward.compiler.tasks import task_spec
from edgeward.errors import UnsupportedError, UsageError

from .decoder_cache import kept_shapes
from .decoder_experts import run_all_experts
from .decoder_kinds import check_decoder
from .decoder_module import CachedDecoder, StatefulDecoder, split_head
from .norms import swap_norms
from .rotary import swap_rotary

LOGITS = "logits"
KEYS, VALUES = "kv_cache_k_{}", "kv_cache_v_{}"
NEW = "new_{}"


@dataclass(frozen=True, slots=True)
class CachedFront:
    """What is traced: forward(input_ids (1, tokens), position (1,), *cache) -> logits, new cache.

    `inputs` are examples by name in the order of forward's arguments, ids and position int32;
    `outputs` are the names of what it returns, in order. `cache` names what is kept with its shape:
    inputs of the module where it is not `stateful` (zeros to begin with, then what the outputs
    `new_…` gave), buffers of it where it is. `held` names the inputs behind those that stay as they
    are for a whole text: what an encoder gave, by the names of its outputs.
    """

    module: Any
    inputs: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]
    cache: Mapping[str, tuple[int, ...]]
    tokens: int
    context: int
    stateful: bool = False
    held: tuple[str, ...] = ()


def open_decoder_front(
    task: str,
    folder: Path,
    model: Any,
    *,
    tokens: int,
    context: int,
    stateful: bool,
    head_split: int | None = None,
) -> CachedFront:
    """Return the front end of a loaded model for calls of so many tokens.

    The model is changed, so it is one of the caller's own (`reference_model.load_another`); for
    another number of tokens the same may be given again. `head_split` is the most columns that a
    product with the vocabulary may have. Raises UsageError where the context is longer than the
    model's, UnsupportedError for what has no such form.
    """
    del folder
    if task_spec(task).name != "text-generation":
        raise UnsupportedError(f"{task} does not write with a cache of this kind")
    check_decoder(model.config)
    _check_context(model, tokens, context)
    _prepare(model, context, head_split)
    token = torch.zeros((1, 1), dtype=torch.int64)
    shapes = kept_shapes(lambda cache: model(token, past_key_values=cache, use_cache=True))
    return cached_front(CachedDecoder(model, tokens, context), shapes, {}, stateful=stateful)


def cached_front(
    module: Any,
    shapes: Sequence[tuple[int, int]],
    held: Mapping[str, torch.Tensor],
    *,
    stateful: bool,
) -> CachedFront:
    """Return the front end of a module over `slots`, whose layers keep such heads and widths."""
    tokens, context = len(module.slots.steps), len(module.slots.slots)
    inputs = {
        "input_ids": torch.zeros((1, tokens), dtype=torch.int32),
        "position": torch.zeros(1, dtype=torch.int32),
    }
    names = tuple(held)
    if stateful:
        whole = StatefulDecoder(module, *_uniform(shapes)).eval()
        cache = {name: tuple(buffer.shape) for name, buffer in whole.named_buffers(recurse=False)}
        return CachedFront(
            whole, inputs | held, (LOGITS,), cache, tokens, context, stateful=True, held=names
        )
    cache = {
        kind.format(number): (1, heads, context, width)
        for number, (heads, width) in enumerate(shapes)
        for kind in (KEYS, VALUES)
    }
    states = {name: torch.zeros(shape) for name, shape in cache.items()}
    outputs = (LOGITS, *(NEW.format(name) for name in cache))
    given = inputs | states | held
    return CachedFront(module.eval(), given, outputs, cache, tokens, context, held=names)


def _uniform(shapes: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    if len(set(shapes)) != 1:
        raise UnsupportedError(
            "This model's layers keep states of different shapes",
            why=", ".join(f"{heads} heads of {width}" for heads, width in sorted(set(shapes))),
        )
    heads, width = shapes[0]
    return len(shapes), heads, width


def _prepare(model: Any, context: int, head_split: int | None) -> None:
    model.set_attn_implementation("eager")
    run_all_experts(model)
    swap_norms(model)
    swap_rotary(model, context)
    if head_split is not None:
        split_head(model, head_split)


def _check_context(model: Any, tokens: int, context: int) -> None:
    config = model.config.get_text_config()
    most = getattr(config, "max_position_embeddings", None)
    if not 0 < tokens <= context:
        raise UsageError(f"A call of {tokens} tokens does not fit a context of {context}")
    if most is not None and context > most:
        raise UsageError(
            f"A context of {context} tokens is longer than the model's", why=f"it takes {most}"
        )
