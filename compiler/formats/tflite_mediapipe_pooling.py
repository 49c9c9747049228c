"""How token vectors become a text's vector within a graph, as the runtime pools them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from edgeward.errors import UnsupportedError
from edgeward.runtimes.tasks.pooling import normalize, read_pipeline

_TINY = 1e-12
Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def pooled(assets: Path) -> Pool:
    """Return what makes a text's vector of (1, tokens, width) and a float mask (1, tokens).

    Raises UnsupportedError for steps that the graph has no form of.
    """
    pipeline = read_pipeline(assets)
    unknown = [mode for mode in pipeline.modes if mode not in _POOLS]
    if unknown or any(step is not normalize for step in pipeline.steps):
        raise UnsupportedError(
            "MediaPipe's embedder takes the model's vector as the graph gives it",
            why=f"{pipeline.described} is not written into one: mean, CLS, max and lengths are",
        )
    if pipeline.default_prompt is not None:
        raise UnsupportedError(
            "MediaPipe puts no prompt before a text",
            why=f"this model has {pipeline.default_prompt!r} for one",
        )

    def pool(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = torch.cat([_POOLS[mode](tokens, mask) for mode in pipeline.modes], dim=-1)
        for _ in pipeline.steps:
            length = torch.sqrt((found * found).sum(dim=-1, keepdim=True))
            found = found / torch.clamp(length, min=_TINY)
        return found

    return pool


def _mean(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return _summed(tokens, mask) / torch.clamp(mask.sum(dim=1, keepdim=True), min=_TINY)


def _mean_sqrt(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    count = torch.clamp(mask.sum(dim=1, keepdim=True), min=_TINY)
    return _summed(tokens, mask) / torch.sqrt(count)


def _summed(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (tokens * mask[:, :, None]).sum(dim=1)


def _largest(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What is hidden counts as -1e9, as in the runtime."""
    shown = mask[:, :, None]
    return (tokens * shown - (1.0 - shown) * 1e9).amax(dim=1)


def _first(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """MediaPipe fills up behind a text."""
    del mask
    return tokens[:, 0]


_POOLS: dict[str, Any] = {
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "max": _largest,
    "cls": _first,
}
