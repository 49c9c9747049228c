"""Pooling over 1, 2 or 3 axes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from ..values import Args
from .linear import conv_pads, padded

_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_LARGEST = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def avg_pool(args: Args) -> Any:
    """Return the mean of each window, of what is padded too unless that is excluded."""
    x = args.tensor("x")
    summed = _sums(args, x, over=0)
    if args.flag("exclude_padding_from_average"):
        return summed / _sums(args, torch.ones_like(x[:1, :1]), over=0)
    # What lies beyond the padding, where the size is rounded up, never counts.
    return summed / _sums(args, torch.ones_like(x[:1, :1]), over=1)


def l2_pool(args: Args) -> Any:
    """Return the root of the sum of squares of each window."""
    return torch.sqrt(_sums(args, args.tensor("x").square(), over=0))


def max_pool(args: Args) -> Any:
    """Return the largest of each window."""
    x = args.tensor("x")
    kernel, strides, pads, more = _windows(args, x)
    grown = padded(padded(x, pads, -math.inf), more, -math.inf)
    return _LARGEST[x.ndim - 2](grown, kernel, strides)


def _sums(args: Args, x: Any, over: int) -> Any:
    kernel, strides, pads, more = _windows(args, x)
    grown = padded(padded(x, pads, over), more)
    return _AVERAGE[x.ndim - 2](grown, kernel, strides) * math.prod(kernel)


def _windows(args: Args, x: Any) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return kernel, strides, padding, and what a last window reaches beyond that."""
    kernel, sizes = args.numbers("kernel_sizes"), x.shape[2:]
    strides = args.numbers("strides", [1] * len(kernel))
    pads = conv_pads(args, sizes, kernel, strides, [1] * len(kernel))
    more = []
    for axis, (size, width, by) in enumerate(zip(sizes, kernel, strides, strict=True)):
        before, after = pads[2 * axis : 2 * axis + 2]
        whole = size + before + after
        count = (whole - width) // by + 1
        if args.flag("ceil_mode"):
            count = -(-(whole - width) // by) + 1
            # A window that begins in the padding behind is left out, as torch does it.
            if (count - 1) * by >= size + before:
                count -= 1
        more += [0, max((count - 1) * by + width - whole, 0)]
    return kernel, strides, pads, more
