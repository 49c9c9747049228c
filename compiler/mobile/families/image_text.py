"""Pictures beside texts: two towers whose vectors are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeward.compiler.modalities.base import open_modality
from edgeward.compiler.tasks import TaskSpec

from ..front import HIDDEN, Front
from ..graph import simplified
from .text import padding_of


class TwoTowers(nn.Module):
    """The model behind an additive mask that looks back only, where its texts have a mask."""

    def __init__(self, model: Any, names: Sequence[str], outputs: Sequence[str], length: int):
        super().__init__()
        self.model, self.names, self.outputs = model, tuple(names), tuple(outputs)
        ahead = torch.full((length, length), HIDDEN).triu(1)[None, None]
        self.register_buffer("ahead", ahead, persistent=False)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take ids (texts, sequence), their mask where there is one, and pixels (images, …)."""
        given = dict(zip(self.names, tensors, strict=True))
        if "attention_mask" in given:
            shown = given["attention_mask"].to(torch.float32)[:, None, None, :]
            hidden = (1.0 - shown) * HIDDEN + self.get_buffer("ahead")
            given["attention_mask"] = hidden.clamp(min=HIDDEN)
        found = self.model(**given, return_dict=True)
        return tuple(found[name] for name in self.outputs)


def front(spec: TaskSpec, folder: Path, model: Any, sizes: Mapping[str, int]) -> Front:
    """Wrap two towers for so many texts and pictures."""
    modality = open_modality(spec, folder, model)
    axes, traced = modality.axes(), modality.traced()
    inputs = {}
    for name, tensor in traced.items():
        kind = torch.float32 if tensor.is_floating_point() else torch.int32
        shape = [
            sizes[axes[name][at]] if at in axes[name] else n for at, n in enumerate(tensor.shape)
        ]
        inputs[name] = torch.ones(shape, dtype=kind)
    named = {
        **axes,
        "logits_per_image": {0: "images", 1: "texts"},
        "logits_per_text": {0: "texts", 1: "images"},
        "text_embeds": {0: "texts"},
        "image_embeds": {0: "images"},
    }
    length = int(inputs["input_ids"].shape[1])
    module = TwoTowers(model, list(inputs), spec.outputs, length)
    traced = simplified(module, list(inputs.values()))
    return Front(traced, inputs, spec.outputs, named, padding_of(model))
