"""Modules that compute the same in a way that float16 holds and mobile engines have.

What a module is, is told by what it computes, not by its name: a norm is tried on random rows and
replaced where its values are those of the plain formula. A model has them only while it is traced:
it may be another's reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .norms import safe_norm

# Rows are divided by no less: a float16 number whose reciprocal is one too.
LEAST = 2.0**-14
_EPSILONS = ("variance_epsilon", "eps", "epsilon")
_CLOSE = 1e-4


class SafeGroupNorm(nn.Module):
    """Group norm after a division by each group's largest value."""

    def __init__(self, original: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.root_of_eps = original.num_groups, float(original.eps) ** 0.5
        self.weight, self.bias = original.weight, original.bias

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Return (batch, channels, …) normed over each group and all that follows."""
        rows = given.reshape(given.shape[0], self.groups, -1)
        largest = rows.abs().amax(-1, keepdim=True).clamp(min=LEAST)
        scaled = rows / largest
        centred = scaled - scaled.mean(-1, keepdim=True)
        added = self.root_of_eps / largest
        spread = (centred * centred).mean(-1, keepdim=True) + added * added
        normed = (centred * torch.rsqrt(spread)).reshape(given.shape)
        if self.weight is None:
            return normed
        shape = (1, -1, *(1,) * (given.ndim - 2))
        return normed * self.weight.reshape(shape) + self.bias.reshape(shape)


class SafeResponseNorm(nn.Module):
    """ConvNeXt V2's response norm, channels last, after a division by the largest value."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Take (batch, height, width, channels)."""
        largest = given.abs().amax((1, 2, 3), keepdim=True).clamp(min=LEAST)
        scaled = given / largest
        lengths = (scaled * scaled).sum((1, 2), keepdim=True).sqrt()
        ratio = lengths / (lengths.mean(-1, keepdim=True) + 1e-6 / largest)
        return self.weight * (given * ratio) + self.bias + given


@contextmanager
def made_safe(model: nn.Module) -> Iterator[list[str]]:
    """Put safe modules into a model for a while; yields the names of what was replaced."""
    found = [(name, module, _safe(module)) for name, module in model.named_modules() if name]
    swapped = [(name, module, safe) for name, module, safe in found if safe is not None]
    try:
        for name, _, safe in swapped:
            _put(model, name, safe.eval())
        yield [name for name, _, _ in swapped]
    finally:
        for name, module, _ in swapped:
            _put(model, name, module)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _safe(module: nn.Module) -> nn.Module | None:
    if isinstance(module, nn.GroupNorm):
        return SafeGroupNorm(module)
    if isinstance(module, nn.LayerNorm) or any(module.children()):
        return None
    own = dict(module.named_parameters(recurse=False))
    if set(own) != {"weight", "bias"}:
        return safe_norm(module)
    if own["weight"].ndim == 4:
        return _as_response_norm(module, own["weight"], own["bias"])
    return _as_layer_norm(module, own["weight"])


def _as_response_norm(
    module: nn.Module, weight: torch.Tensor, bias: torch.Tensor
) -> SafeResponseNorm | None:
    if type(module).__module__.startswith("torch."):
        return None
    safe = SafeResponseNorm(weight, bias)
    rows = _random((2, 3, 5, weight.shape[-1]))
    found = _made(module, rows)
    return safe if found is not None and _alike(safe(rows), found) else None


def _as_layer_norm(module: nn.Module, weight: torch.Tensor) -> nn.LayerNorm | None:
    """A norm of rows written out, as torch's own: engines have an operator for that."""
    eps = next((v for v in map(vars(module).get, _EPSILONS) if isinstance(v, float)), None)
    own_class = type(module).__module__.startswith("torch.")
    if own_class or eps is None or weight.ndim != 1:
        return None
    size = weight.numel()
    rows = _random((4, size))
    found, shift = _made(module, rows), _made(module, torch.zeros(1, size))
    if found is None or shift is None:
        return None
    plain = functional.layer_norm(rows, (size,), eps=eps)
    gain = ((found - shift) * plain).sum(0) / (plain * plain).sum(0)
    if not _alike(plain * gain + shift, found):
        return None
    norm = nn.LayerNorm(size, eps=eps)
    norm.weight, norm.bias = nn.Parameter(gain), nn.Parameter(shift[0])
    return norm


def _random(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _made(module: nn.Module, given: torch.Tensor) -> torch.Tensor | None:
    """What it makes of a tensor, None where it is not a function of one to one like it."""
    try:
        with torch.no_grad():
            found: Any = module(given)
    except (TypeError, RuntimeError, ValueError):
        return None
    alike = isinstance(found, torch.Tensor) and found.shape == given.shape
    return found if alike else None


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float((one - other).abs().max()) <= _CLOSE * float(other.std().clamp(min=1e-9))
