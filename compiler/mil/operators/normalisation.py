"""Normalisations; means and variances are of float32."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from ..values import Args


def batch_norm(args: Args) -> Any:
    """Normalise each channel by what was measured in training."""
    x = args.tensor("x")
    by = [1, -1] + [1] * (x.ndim - 2)
    scale = torch.rsqrt(args.tensor("variance") + args.real("epsilon", 1e-5)).reshape(by)
    found = (x - args.tensor("mean").reshape(by)) * scale
    return _scaled(args, found, by)


def instance_norm(args: Args) -> Any:
    """Normalise each channel of each row."""
    x = args.tensor("x")
    found = _normal(x, list(range(2, x.ndim)), args.real("epsilon", 1e-5))
    return _scaled(args, found, [1, -1] + [1] * (x.ndim - 2))


def layer_norm(args: Args) -> Any:
    """Normalise over axes; gamma and beta have those axes' shape."""
    x = args.tensor("x")
    axes = [one % x.ndim for one in args.numbers("axes", range(x.ndim))]
    found = _normal(x, axes, args.real("epsilon", 1e-5))
    return _scaled(args, found, [x.shape[at] if at in axes else 1 for at in range(x.ndim)])


def l2_norm(args: Args) -> Any:
    """Divide by the root of the sum of squares over the last three axes."""
    x = args.tensor("x")
    squares = x.square().sum(dim=(-3, -2, -1), keepdim=True)
    return x / torch.sqrt(squares + args.real("epsilon", 1e-6))


def local_response_norm(args: Args) -> Any:
    """Divide by a power of the squares of channels nearby."""
    alpha, beta, k = args.real("alpha", 1e-4), args.real("beta", 0.75), args.real("k", 1.0)
    return F.local_response_norm(args.tensor("x"), args.number("size"), alpha, beta, k)


def _normal(x: Any, axes: list[int], epsilon: float) -> Any:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + epsilon)


def _scaled(args: Args, x: Any, shape: list[int]) -> Any:
    gamma, beta = args.maybe("gamma"), args.maybe("beta")
    if gamma is not None:
        x = x * gamma.reshape(shape)
    return x if beta is None else x + beta.reshape(shape)
