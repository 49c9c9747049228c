"""Modules that compute the same in a way that float16 holds and mobile engines have.

What a module is, is told by what it computes, not by its name: a norm is tried on random rows and
replaced where its values are those of the plain formula.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

# Rows are divided by no less: a float16 number whose reciprocal is one too.
LEAST = 2.0**-14
_ROWS = 4
_CLOSE = 1e-4


class SafeRMSNorm(nn.Module):
    """Root mean square norm of rows divided by their largest value: no square overflows."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.root_of_eps = float(eps) ** 0.5

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the normed rows, of the last axis."""
        largest = rows.abs().amax(-1, keepdim=True).clamp(min=LEAST)
        scaled = rows / largest
        added = self.root_of_eps / largest
        mean = (scaled * scaled).mean(-1, keepdim=True) + added * added
        return scaled * torch.rsqrt(mean) * self.weight


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


def make_safe(model: nn.Module) -> list[str]:
    """Replace what is not safe inside a model; return the names of what was replaced."""
    replaced = []
    for name, module in list(model.named_modules()):
        if parametrize.is_parametrized(module):
            _fold_parametrizations(module)
            replaced.append(name)
        safe = _safe(module)
        if safe is not None and name:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, safe.eval())
            replaced.append(name)
    return replaced


def _safe(module: nn.Module) -> nn.Module | None:
    if isinstance(module, nn.GroupNorm):
        return SafeGroupNorm(module)
    if isinstance(module, nn.LayerNorm) or any(module.children()):
        return None
    own = dict(module.named_parameters(recurse=False))
    if set(own) == {"weight", "bias"} and type(module).__name__.endswith("GRN"):
        return SafeResponseNorm(own["weight"], own["bias"])
    weight = own.get("weight")
    if weight is None or weight.ndim != 1 or not _norm_like(module):
        return None
    eps = _eps_of(module, weight)
    return _as_root_mean_square(module, weight, eps) or _as_layer_norm(module, weight, eps)


def _norm_like(module: nn.Module) -> bool:
    """Whether it may be a norm of rows: nothing of torch's own but its root mean square norm."""
    if isinstance(module, nn.RMSNorm):
        return True
    return not type(module).__module__.startswith("torch.") and "Norm" in type(module).__name__


def _eps_of(module: nn.Module, weight: torch.Tensor) -> float:
    for name in ("variance_epsilon", "eps", "epsilon", "layer_norm_eps"):
        found = getattr(module, name, None)
        if isinstance(found, float):
            return found
    return float(torch.finfo(weight.dtype).eps)


def _rows(size: int) -> torch.Tensor:
    return torch.randn((_ROWS, size), generator=torch.Generator().manual_seed(0))


def _given(module: nn.Module, rows: torch.Tensor) -> torch.Tensor | None:
    """What it makes of rows, None where it is not a function of one tensor."""
    try:
        with torch.no_grad():
            found: Any = module(rows)
    except (TypeError, RuntimeError, ValueError):
        return None
    found = found[0] if isinstance(found, tuple) else found
    alike = isinstance(found, torch.Tensor) and found.shape == rows.shape
    return found.float() if alike else None


def _as_root_mean_square(module: nn.Module, weight: torch.Tensor, eps: float) -> nn.Module | None:
    rows = _rows(weight.numel())
    found = _given(module, rows)
    if found is None:
        return None
    plain = rows * torch.rsqrt((rows * rows).mean(-1, keepdim=True) + eps)
    gain = (found * plain).sum(0) / (plain * plain).sum(0)
    return SafeRMSNorm(gain, eps) if _alike(plain * gain, found) else None


def _as_layer_norm(module: nn.Module, weight: torch.Tensor, eps: float) -> nn.Module | None:
    size = weight.numel()
    rows = _rows(size)
    found, shift = _given(module, rows), _given(module, torch.zeros(1, size))
    if found is None or shift is None or isinstance(module(rows), tuple):
        return None
    plain = functional.layer_norm(rows, (size,), eps=eps)
    gain = ((found - shift) * plain).sum(0) / (plain * plain).sum(0)
    if not _alike(plain * gain + shift, found):
        return None
    norm = nn.LayerNorm(size, eps=eps)
    norm.weight, norm.bias = nn.Parameter(gain), nn.Parameter(shift[0])
    return norm


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float((one - other).abs().max()) <= _CLOSE * float(other.std().clamp(min=1e-9))


def _fold_parametrizations(module: nn.Module) -> None:
    """A weight that is made of others at every call, as weight norm does, is made once."""
    for name in list(getattr(module, "parametrizations", {})):
        parametrize.remove_parametrizations(module, name)
