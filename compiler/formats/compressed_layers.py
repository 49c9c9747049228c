"""The layers of a model that is about to be rounded: how it is loaded, which stay, their groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeward.errors import UnsupportedError

from .compressed_checkpoint import stored_dtype
from .compressed_schemes import Scheme

MAX_SHARD = "5GB"


def load_stored(folder: Path) -> tuple[Any, tuple[str, ...]]:
    """Return the model as it will be stored, and the layers that stay as they are: its head."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=stored_dtype(folder), local_files_only=True, trust_remote_code=False
    ).eval()
    head = model.get_output_embeddings()
    heads = tuple(name for name, module in model.named_modules() if module is head)
    return model, heads or ("lm_head",)


def group_of(
    model: Any, kept: Sequence[str], scheme: Scheme, asked: int | None = None
) -> int | None:
    """Return how many columns share a scale: what was asked for, else the largest that divides.

    None where a scale is not for a group. Raises UnsupportedError naming a layer that no group
    divides.
    """
    if not scheme.groups:
        return None
    columns = {name: module.in_features for name, module in _linears(model) if name not in kept}
    choices = (asked,) if asked is not None else scheme.groups
    for group in choices:
        if all(width % group == 0 for width in columns.values()):
            return group
    name, width = next((n, w) for n, w in columns.items() if w % choices[-1])
    raise UnsupportedError(
        f"{name} has {width} columns, which groups of {choices[-1]} do not divide",
        why="every group of a row's weights has one scale, and engines take whole groups",
        next="edgeward compile … --precision fp8-dynamic",
    )


def _linears(model: Any) -> Iterator[tuple[str, Any]]:
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            yield name, module
