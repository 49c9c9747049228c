"""DeBERTa: its attention multiplies the mask of tokens itself and fills by it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgeward.compiler.tasks import TaskSpec

from ..front import Front
from .text import wrapped


def front(spec: TaskSpec, folder: Path, model: Any, sizes: Mapping[str, int]) -> Front:
    """Wrap it with its plain mask; `rewrites.py` makes an addition of what it fills."""
    return wrapped(spec, folder, model, sizes, _shown)


def _shown(shown: torch.Tensor) -> torch.Tensor:
    return shown
