"""Text encoders, with any head: those whose attention takes a mask of four dimensions as it is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeward.compiler.modalities.base import open_modality
from edgeward.compiler.tasks import TaskSpec

from ..front import HIDDEN, Front


class TextEncoder(nn.Module):
    """The model behind an additive mask, with the position ids that its own forward would count."""

    def __init__(self, model: Any, names: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names, self.outputs = model, tuple(names), tuple(outputs)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take ids and mask int32 (batch, sequence); return the outputs of the task."""
        given = dict(zip(self.names, tensors, strict=True))
        shown = given.pop("attention_mask").to(torch.float32)
        mask = (1.0 - shown)[:, None, None, :] * HIDDEN
        found = self.model(**given, attention_mask=mask, return_dict=True)
        return tuple(getattr(found, name) for name in self.outputs)


def front(spec: TaskSpec, folder: Path, model: Any, sizes: Mapping[str, int]) -> Front:
    """Wrap a text encoder for one batch and length."""
    modality = open_modality(spec, folder, model)
    rows, length = sizes["batch"], sizes["sequence"]
    names = list(modality.axes())
    inputs = {name: torch.ones((rows, length), dtype=torch.int32) for name in names}
    axes = {name: {0: "batch", 1: "sequence"} for name in (*names, *spec.outputs)}
    if "token_type_ids" in inspect.signature(model.forward).parameters:
        inputs.setdefault("token_type_ids", torch.zeros((rows, length), dtype=torch.int32))
    return Front(TextEncoder(model, list(inputs), spec.outputs), inputs, spec.outputs, axes)
