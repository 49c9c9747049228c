"""Norms over the last axis that square what they are given, made safe for float16.

A square of 256 and more is no float16 number, and activations of a few hundred are usual: a row is
divided by its largest value first. What scales a norm's result (its weight, or one more than that)
is measured, so a model's own class needs no row here.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

_NAMES = re.compile(r"(RMS|Layer)_?Norm", re.IGNORECASE)
_EPSILONS = ("variance_epsilon", "eps", "epsilon")
# Rows that are smaller are divided by this: their squares would be lost in float16 otherwise.
_LEAST = 2.0**-8
_SCALES = (1e-3, 1.0, 30.0)
_TOLERANCE = 1e-5


class SafeNorm(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """(x - mean, where `centred`) / root mean square * scale, over the last axis."""

    def __init__(self, scale: torch.Tensor, epsilon: float, *, centred: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.root_epsilon, self.centred = epsilon**0.5, centred

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return what the original norm returns, floats of the same shape."""
        if self.centred:
            hidden_states = hidden_states - hidden_states.mean(-1, keepdim=True)
        largest = hidden_states.abs().amax(-1, keepdim=True).clamp(min=_LEAST)
        small = hidden_states / largest
        floor = self.root_epsilon / largest
        root = torch.rsqrt((small * small).mean(-1, keepdim=True) + floor * floor)
        return small * root * self.scale


def swap_norms(model: Any) -> int:
    """Put a `SafeNorm` in place of each norm that squares by itself; return how many were.

    torch's own LayerNorm stays: engines have an operator for it. What does not compute the same
    afterwards stays too.
    """
    found = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            safe = safe_norm(child)
            if safe is not None:
                setattr(parent, name, safe)
                found += 1
    return found


def safe_norm(norm: nn.Module) -> SafeNorm | None:
    """Return what computes the same as a norm without a bias, None for what is none."""
    weight = getattr(norm, "weight", None)
    epsilon = _epsilon(norm)
    named = _NAMES.search(type(norm).__name__)
    if not named or isinstance(norm, (nn.LayerNorm, SafeNorm)) or weight is None:
        return None
    if epsilon is None or weight.shape[-1] % 2 or getattr(norm, "bias", None) is not None:
        return None
    scale = _scale(norm, weight, epsilon)
    for centred in (False, True):
        safe = SafeNorm(scale, epsilon, centred=centred)
        if _same(norm, safe, weight):
            return safe
    return None


def _epsilon(norm: nn.Module) -> float | None:
    for name in _EPSILONS:
        value = getattr(norm, name, None)
        if isinstance(value, float):
            return value
    if isinstance(norm, nn.RMSNorm):
        return float(torch.finfo(norm.weight.dtype).eps)
    return None


def _scale(norm: nn.Module, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """What a row of ones and minus ones, which has no mean and a square of one, is scaled by."""
    signs = torch.ones_like(weight)
    signs[..., 1::2] = -1.0
    with torch.no_grad():
        found: torch.Tensor = norm(signs[None])[0] * signs
    return found.detach() * (1.0 + epsilon) ** 0.5


def _same(norm: nn.Module, safe: SafeNorm, weight: torch.Tensor) -> bool:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for size in _SCALES:
            rows = torch.randn((3, *weight.shape), generator=generator) * size + size / 2
            wanted = norm(rows)
            if (safe(rows) - wanted).abs().max() > _TOLERANCE * wanted.abs().max():
                return False
    return True
