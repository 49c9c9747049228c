"""Attention as one operator."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..values import Args


def scaled_dot_product_attention(args: Args) -> Any:
    """Return softmax(q k^T / sqrt(width) + mask) v; a mask of bools says what is seen."""
    query, key, value = args.tensor("query"), args.tensor("key"), args.tensor("value")
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    mask = args.maybe("attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    elif mask is not None:
        scores = scores + mask
    return torch.softmax(scores, -1) @ value
