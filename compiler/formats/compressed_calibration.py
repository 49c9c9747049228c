"""What a checkpoint is calibrated on: windows of text, as a generator reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeward.errors import UsageError
from edgeward.runtimes.tasks.generation import context_limit
from edgeward.runtimes.tasks.pooling import read_json

MOST_TOKENS = 1 << 16
_WINDOW = 512


def token_samples(
    folder: Path, tokenizer: Any, texts: Sequence[str], most: int = MOST_TOKENS
) -> list[dict[str, Any]]:
    """Return texts one after the other, cut into windows: int64 ids and mask, (1, 512) each.

    Windows are as short as the model's context where that is shorter; `most` tokens at most. Raises
    UsageError where the texts have no tokens.
    """
    import torch

    ids = list(tokenizer(" ".join(texts))["input_ids"])[:most]
    if not ids:
        raise UsageError("The calibration texts have no tokens")
    length = min(context_limit(folder, read_json(folder / "config.json")) or _WINDOW, _WINDOW)
    # Blocks are traced with one sample: all are of one length, unless there is one alone.
    whole = max(len(ids) // length, 1)
    windows = [torch.tensor([ids[at * length : (at + 1) * length]]) for at in range(whole)]
    return [{"input_ids": one, "attention_mask": torch.ones_like(one)} for one in windows]
