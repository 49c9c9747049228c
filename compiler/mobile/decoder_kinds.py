"""What some decoders do in a way of their own, and which cannot be run on mobile engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from edgeward.errors import UnsupportedError

from .decoder_cache import Slots

FULL, SLIDING = "full_attention", "sliding_attention"
Mask = torch.Tensor | Mapping[str, torch.Tensor]
Masks = Callable[[torch.Tensor], Mask]
_WINDOWS = "edgeward_windows"


def check_decoder(config: Any) -> None:
    """Raise UnsupportedError for a decoder that has no form with a cache of slots."""
    stated = config.get_text_config()
    kinds = set(getattr(stated, "layer_types", None) or ()) - {FULL, SLIDING}
    if kinds:
        raise UnsupportedError(
            f"{config.model_type} has no form for mobile engines",
            why=f"its layers of {', '.join(sorted(kinds))} keep more than tokens' keys and values",
        )
    if config.model_type == "falcon" and getattr(stated, "alibi", False):
        raise UnsupportedError(
            "A falcon with ALiBi has no form for mobile engines",
            why="it counts positions from its mask; falcons with rotary embeddings are taken",
        )


def open_masks(model: Any, slots: Slots) -> Masks:
    """Return what makes the mask of a call from how far each slot is ahead of each token.

    The model is changed where it would mask by itself.
    """
    config = model.config.get_text_config()
    window: int | None = getattr(config, "sliding_window", None)
    if model.config.model_type == "bloom":
        return _sloping(model, slots)
    if model.config.model_type == "gpt_neo":
        return _local(model, slots, int(config.window_size))
    if getattr(config, "layer_types", None):
        return lambda ahead: {FULL: slots.hidden(ahead), SLIDING: slots.hidden(ahead, window)}
    return lambda ahead: slots.hidden(ahead, window)


def _sloping(model: Any, slots: Slots) -> Masks:
    """ALiBi goes into the mask, as distances: positions times slopes are too coarse in float16."""
    from transformers.models.bloom.modeling_bloom import _get_alibi_slopes

    heads = int(model.config.n_head)
    slopes = _get_alibi_slopes(heads, torch.device("cpu"))[None, :, None, None]
    none = torch.zeros((heads, 1, len(slots.slots)))
    model.base_model.build_alibi_tensor = lambda *_, **__: none

    def mask(ahead: torch.Tensor) -> torch.Tensor:
        behind = torch.minimum(ahead, slots.nothing).to(torch.float32)
        return slots.hidden(ahead) + slopes * behind

    return mask


class _Windows:
    """What GPT-Neo's local layers are given in place of the mask of all."""

    def __init__(self) -> None:
        self.mask: torch.Tensor | None = None

    def hook(self, _: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, given | {"attention_mask": self.mask}


def _local(model: Any, slots: Slots, window: int) -> Masks:
    if not hasattr(model, _WINDOWS):
        _hide_by_mask(model)
    windows: _Windows = getattr(model, _WINDOWS)

    def mask(ahead: torch.Tensor) -> torch.Tensor:
        windows.mask = slots.hidden(ahead, window)
        return slots.hidden(ahead)

    return mask


def _hide_by_mask(model: Any) -> None:
    windows = _Windows()
    setattr(model, _WINDOWS, windows)
    for layer in model.modules():
        if hasattr(layer, "attention_type") and hasattr(layer, "bias"):
            # It hides by the numbers of queries and keys, which are not positions here.
            layer.bias = torch.ones_like(layer.bias)
            if layer.attention_type == "local":
                layer.register_forward_pre_hook(windows.hook, with_kwargs=True)
