"""Reductions; sums run in float32 whatever is reduced."""

from __future__ import annotations

from typing import Any

import torch

from ..values import Args


def _axes(args: Args) -> list[int]:
    rank = args.tensor("x").ndim
    return [one % rank for one in args.numbers("axes", range(rank))]


def reduce_sum(args: Args) -> Any:
    """Return the sum."""
    return _summed(args, args.tensor("x"))


def reduce_mean(args: Args) -> Any:
    """Return the mean."""
    x, axes = args.tensor("x"), _axes(args)
    if not x.is_floating_point():
        x = x.double()
    return torch.mean(x, axes, keepdim=args.flag("keep_dims"))


def reduce_max(args: Args) -> Any:
    """Return the largest."""
    return torch.amax(args.tensor("x"), _axes(args), keepdim=args.flag("keep_dims"))


def reduce_min(args: Args) -> Any:
    """Return the smallest."""
    return torch.amin(args.tensor("x"), _axes(args), keepdim=args.flag("keep_dims"))


def reduce_prod(args: Args) -> Any:
    """Return the product."""
    x = args.tensor("x")
    for axis in sorted(_axes(args), reverse=True):
        x = torch.prod(x, axis, keepdim=args.flag("keep_dims"))
    return x


def reduce_l1_norm(args: Args) -> Any:
    """Return the sum of what is without its sign."""
    return _summed(args, args.tensor("x").abs())


def reduce_l2_norm(args: Args) -> Any:
    """Return the root of the sum of squares."""
    return torch.sqrt(_summed(args, args.tensor("x").square()).float())


def reduce_log_sum(args: Args) -> Any:
    """Return the logarithm of the sum."""
    return torch.log(_summed(args, args.tensor("x")))


def reduce_log_sum_exp(args: Args) -> Any:
    """Return the logarithm of the sum of exponentials."""
    x = args.tensor("x").float()
    return torch.logsumexp(x, _axes(args), keepdim=args.flag("keep_dims"))


def reduce_sum_square(args: Args) -> Any:
    """Return the sum of squares."""
    return _summed(args, args.tensor("x").square())


def reduce_argmax(args: Args) -> Any:
    """Return where the largest is."""
    x = args.tensor("x")
    return torch.argmax(x, args.number("axis", -1), keepdim=args.flag("keep_dims"))


def reduce_argmin(args: Args) -> Any:
    """Return where the smallest is."""
    x = args.tensor("x")
    return torch.argmin(x, args.number("axis", -1), keepdim=args.flag("keep_dims"))


def _summed(args: Args, x: Any) -> Any:
    return torch.sum(x, _axes(args), keepdim=args.flag("keep_dims"))
