"""Text encoders, with any head: those whose attention takes a mask of four dimensions as it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeward.compiler.modalities.base import open_modality
from edgeward.compiler.tasks import TaskSpec
from edgeward.errors import UnsupportedError

from ..front import HIDDEN, Front
from ..graph import simplified

_KINDS = "token_type_ids"
# What a model's body gets for the mask, of one float32 a token: 1 where it is shown.
Hide = Callable[[torch.Tensor], Any]


class TextEncoder(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """The model behind the mask that its body takes; a head has the plain one, as it expects."""

    def __init__(
        self,
        model: Any,
        names: Sequence[str],
        outputs: Sequence[str],
        hide: Hide,
        kinds: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model, self.names, self.outputs = model, tuple(names), tuple(outputs)
        self._hide = hide
        self.register_buffer("kinds", kinds)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take ids and mask int32 (batch, sequence); return the outputs of the task."""
        given = dict(zip(self.names, tensors, strict=True))
        shown = given.pop("attention_mask").to(torch.float32)
        if self.kinds is not None:
            given["token_type_ids"] = self.kinds
        body = self.model.base_model
        hook = body.register_forward_pre_hook(self._before_body, with_kwargs=True)
        try:
            found = self.model(**given, attention_mask=shown, return_dict=True)
        finally:
            hook.remove()
        return tuple(found[name] for name in self.outputs)

    def _before_body(
        self, body: nn.Module, args: tuple[Any, ...], given: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        del body
        return args, {**given, "attention_mask": self._hide(given["attention_mask"])}


def front(spec: TaskSpec, folder: Path, model: Any, sizes: Mapping[str, int]) -> Front:
    """Wrap a text encoder for one batch and length."""
    return wrapped(spec, folder, model, sizes, additive)


def additive(shown: torch.Tensor) -> torch.Tensor:
    """Return what is added to scores (batch, heads, queries, keys)."""
    return (1.0 - shown)[:, None, None, :] * HIDDEN


def wrapped(
    spec: TaskSpec, folder: Path, model: Any, sizes: Mapping[str, int], hide: Hide
) -> Front:
    """Wrap a text encoder whose body takes what `hide` makes of the mask.

    Types of tokens that the tokenizer does not tell are zeros in the graph. Raises UnsupportedError
    where padding could not be hidden.
    """
    rows, length = sizes["batch"], sizes["sequence"]
    names = list(open_modality(spec, folder, model).axes())
    if "attention_mask" not in names:
        raise UnsupportedError(
            "This model cannot have fixed lengths",
            why="it has no attention_mask, so it would read what fills a text up",
        )
    inputs = {name: torch.ones((rows, length), dtype=torch.int32) for name in names}
    zeros = torch.zeros((rows, length), dtype=torch.int32)
    if _KINDS in inputs:
        inputs[_KINDS] = zeros
    told = _KINDS in inputs or _KINDS not in inspect.signature(model.forward).parameters
    module = TextEncoder(model, list(inputs), spec.outputs, hide, None if told else zeros)
    axes = {name: {0: "batch", 1: "sequence"} for name in inputs}
    by_token = spec.name != "text-classification"
    rows_of = {0: "batch", 1: "sequence"} if by_token else {0: "batch"}
    axes |= dict.fromkeys(spec.outputs, rows_of)
    traced = simplified(module, list(inputs.values()))
    return Front(traced, inputs, spec.outputs, axes, padding_of(model))


def padding_of(model: Any) -> dict[str, int]:
    """Return what fills ids up: the model's own padding."""
    return {"input_ids": getattr(model.config.get_text_config(), "pad_token_id", None) or 0}
