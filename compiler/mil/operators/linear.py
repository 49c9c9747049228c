"""Products: matrices, convolutions, einsum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from ..values import Args

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def linear(args: Args) -> Any:
    """Return x W^T + b."""
    x, weight, bias = args.tensor("x"), args.tensor("weight"), args.maybe("bias")
    if x.is_floating_point():
        return F.linear(x, weight, bias)
    return x @ weight.T + (0 if bias is None else bias)


def matmul(args: Args) -> Any:
    """Return the product of matrices, of either's transpose where asked for."""
    x, y = args.tensor("x"), args.tensor("y")
    # A vector has no transpose.
    if args.flag("transpose_x") and x.ndim > 1:
        x = x.transpose(-1, -2)
    if args.flag("transpose_y") and y.ndim > 1:
        y = y.transpose(-1, -2)
    return torch.matmul(x, y)


def einsum(args: Args) -> Any:
    """Return the sum of products that the equation says."""
    return torch.einsum(args.text("equation"), *args.tensors("values"))


def conv(args: Args) -> Any:
    """Return a convolution over 1, 2 or 3 axes."""
    x, weight = args.tensor("x"), args.tensor("weight")
    count = x.ndim - 2
    strides = args.numbers("strides", [1] * count)
    dilations = args.numbers("dilations", [1] * count)
    pads = conv_pads(args, x.shape[2:], weight.shape[2:], strides, dilations)
    return _CONV[count](
        padded(x, pads),
        weight,
        args.maybe("bias"),
        strides,
        0,
        dilations,
        args.number("groups", 1),
    )


def conv_transpose(args: Args) -> Any:
    """Return a transposed convolution: the whole of it, cut by what is padded."""
    x, weight = args.tensor("x"), args.tensor("weight")
    count = x.ndim - 2
    strides = args.numbers("strides", [1] * count)
    dilations = args.numbers("dilations", [1] * count)
    groups = args.number("groups", 1)
    whole = _TRANSPOSED[count](x, weight, args.maybe("bias"), strides, 0, 0, groups, dilations)
    wanted = args.numbers("output_shape")[2:]
    kind = args.text("pad_type", "valid")
    if kind == "same":
        wanted = wanted or [one * by for one, by in zip(x.shape[2:], strides, strict=True)]
        over = [max(one - to, 0) for one, to in zip(whole.shape[2:], wanted, strict=True)]
        pads = [part for one in over for part in (one // 2, one - one // 2)]
    else:
        pads = args.numbers("pad", [0] * 2 * count) if kind == "custom" else [0] * 2 * count
    return _cut(whole, pads, wanted, args)


def _cut(whole: Any, pads: Sequence[int], wanted: Sequence[int], args: Args) -> Any:
    for axis in range(whole.ndim - 2):
        size = whole.shape[axis + 2]
        start = pads[2 * axis]
        length = wanted[axis] if wanted else size - start - pads[2 * axis + 1]
        # An output shape beyond what is computed continues with the bias alone.
        if start + length > size:
            more = [0] * (2 * (whole.ndim - 3 - axis)) + [0, start + length - size]
            bias = args.maybe("bias")
            filler = (
                torch.zeros_like(whole)
                if bias is None
                else torch.zeros_like(whole) + (bias.reshape([1, -1] + [1] * (whole.ndim - 2)))
            )
            whole = F.pad(whole - filler, more) + _grown(filler, axis + 2, start + length)
        whole = whole.narrow(axis + 2, start, length)
    return whole


def _grown(filler: Any, axis: int, size: int) -> Any:
    return filler.narrow(axis, 0, 1).expand(
        [size if at == axis else one for at, one in enumerate(filler.shape)]
    )


def conv_pads(
    args: Args,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Return what is padded before and after each axis, by the operator's `pad_type`."""
    kind = args.text("pad_type", "valid")
    if kind == "custom":
        return args.numbers("pad", [0] * 2 * len(sizes))
    if kind == "valid":
        return [0] * 2 * len(sizes)
    pads = []
    for size, width, by, apart in zip(sizes, kernel, strides, dilations, strict=True):
        need = max((-(-size // by) - 1) * by + (width - 1) * apart + 1 - size, 0)
        less, more = need // 2, need - need // 2
        pads += [more, less] if kind == "same_lower" else [less, more]
    return pads


def padded(x: Any, pads: Sequence[int], value: float = 0.0) -> Any:
    """Pad the last axes; `pads` are before and after, in the axes' order."""
    if not any(pads):
        return x
    pairs = [pads[at : at + 2] for at in range(0, len(pads), 2)]
    return F.pad(x, [one for pair in reversed(pairs) for one in pair], value=value)
