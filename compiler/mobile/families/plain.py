"""What needs no mask: pictures, and sounds of one exact length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeward.compiler.modalities.base import open_modality
from edgeward.compiler.tasks import TaskSpec

from ..front import Front
from ..graph import simplified


class Plain(nn.Module):
    """The model with its inputs by position and its outputs as a tuple."""

    def __init__(self, model: Any, names: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names, self.outputs = model, tuple(names), tuple(outputs)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take the float32 inputs as the modality makes them; return the outputs of the task."""
        given = dict(zip(self.names, tensors, strict=True))
        found = self.model(**given, return_dict=True)
        return tuple(found[name] for name in self.outputs)


def front(spec: TaskSpec, folder: Path, model: Any, sizes: Mapping[str, int]) -> Front:
    """Wrap a model of pictures or sounds for one batch, and one length of waveforms."""
    modality = open_modality(spec, folder, model)
    modality.fit({axis: (size,) for axis, size in sizes.items()})
    axes = modality.axes()
    inputs = {
        name: torch.zeros(_shape(tensor, axes[name], sizes))
        for name, tensor in modality.traced().items()
    }
    named = {**axes, **{name: {0: "batch"} for name in spec.outputs}}
    traced = simplified(Plain(model, list(inputs), spec.outputs), list(inputs.values()))
    return Front(traced, inputs, spec.outputs, named)


def _shape(
    tensor: torch.Tensor, named: Mapping[int, str], sizes: Mapping[str, int]
) -> tuple[int, ...]:
    return tuple(sizes[named[at]] if at in named else n for at, n in enumerate(tensor.shape))
