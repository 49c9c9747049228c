"""ModernBERT: some of its layers see a window around each token alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgeward.compiler.tasks import TaskSpec

from ..front import HIDDEN, Front
from .text import additive, wrapped


def front(spec: TaskSpec, folder: Path, model: Any, sizes: Mapping[str, int]) -> Front:
    """Wrap it with a mask for each kind of layer."""
    places = torch.arange(sizes["sequence"])
    far = (places[:, None] - places[None]).abs() > model.config.sliding_window
    beyond = far.to(torch.float32)[None, None] * HIDDEN

    def hide(shown: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = additive(shown)
        return {
            "full_attention": hidden,
            "sliding_attention": torch.maximum(hidden + beyond, torch.tensor(HIDDEN)),
        }

    return wrapped(spec, folder, model, sizes, hide)
