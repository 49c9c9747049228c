"""Compressed weights, and rounding of activations.

Formulas: docstrings of coremltools' iOS16 and iOS18 `constexpr_` operators and of iOS17's
`quantize` and `dequantize`.
"""

from __future__ import annotations

from typing import Any

import torch

from ..values import Args, held_as

_LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


def affine_dequantize(args: Args) -> Any:
    """Return scale * (data - zero point), both along an axis."""
    data, axis = args.tensor("quantized_data").float(), args.number("axis")
    zero = _along(args.tensor("zero_point").float(), data, axis)
    return (data - zero) * _along(args.tensor("scale"), data, axis)


def quantize(args: Args) -> Any:
    """Return x / scale + zero point, rounded to the nearest and cut off at 8 bits."""
    x, axis = args.tensor("input"), args.number("axis")
    found = torch.round(x / _along(args.tensor("scale"), x, axis))
    if args.has("zero_point"):
        found = found + _along(args.tensor("zero_point").float(), x, axis)
    return found.clamp(*_LIMITS[args.text("output_dtype")])


def dequantize(args: Args) -> Any:
    """Return scale * (data - zero point)."""
    data, axis = args.tensor("input").float(), args.number("axis")
    if args.has("zero_point"):
        data = data - _along(args.tensor("zero_point").float(), data, axis)
    return data * _along(args.tensor("scale"), data, axis)


def _along(values: Any, data: Any, axis: int) -> Any:
    if values.ndim == 0:
        return values
    axis %= data.ndim
    return values.reshape([-1 if at == axis else 1 for at in range(data.ndim)])


def constexpr_cast(args: Args) -> Any:
    """Return it; the machine holds it as the output's dtype."""
    return args.tensor("source_val")


def blockwise_shift_scale(args: Args) -> Any:
    """Return scale * (data - offset), both by block of each axis."""
    return _shifted(args.tensor("data"), args)


def sparse_blockwise_shift_scale(args: Args) -> Any:
    """Return the mask, and what is there of scale * (data - offset)."""
    mask = args.tensor("data_mask")
    dense = _shifted(_dense(args.tensor("nonzero_data"), mask), args)
    return mask, dense[mask != 0]


def _shifted(data: Any, args: Args) -> Any:
    data, scale = data.float(), args.tensor("scale")
    if args.has("offset"):
        data = data - _blocks(args.tensor("offset").float(), data.shape)
    return data * _blocks(scale, data.shape)


def _blocks(values: Any, sizes: Any) -> Any:
    for axis, size in enumerate(sizes):
        if values.shape[axis] not in (1, size):
            values = values.repeat_interleave(size // values.shape[axis], axis)
    return values


def lut_to_dense(args: Args) -> Any:
    """Return the table's entry for each index.

    Before iOS18 indices are packed bits and the table is one; from then on a block of indices may
    have a table of its own, and an entry may be a vector along an axis.
    """
    if not args.has("shape"):
        return _looked_up(args.tensor("indices"), args)
    lut, shape = args.tensor("lut"), args.numbers("shape")
    bits = (lut.numel() - 1).bit_length()
    return lut[_unpacked(args.tensor("indices"), bits, shape)].reshape(shape)


def lut_to_sparse(args: Args) -> Any:
    """Return the mask, longer where entries are vectors, and what is there of the entries."""
    mask = args.tensor("indices_mask")
    dense = _looked_up(_dense(args.tensor("indices_nonzero_data"), mask), args)
    width = args.tensor("lut").shape[-1]
    if width > 1:
        mask = mask.repeat_interleave(width, args.number("vector_axis"))
    return mask, dense[mask != 0]


def _looked_up(indices: Any, args: Args) -> Any:
    lut, indices = args.tensor("lut"), indices.long()
    entries, width = lut.shape[-2:]
    tables = torch.arange(lut.shape[:-2].numel()).reshape(lut.shape[:-2])
    rows = _blocks(tables, indices.shape).expand(indices.shape) * entries + indices
    found = lut.reshape(-1, width)[rows]
    if width == 1:
        return found.squeeze(-1)
    axis = args.number("vector_axis") % indices.ndim
    return found.movedim(-1, axis + 1).flatten(axis, axis + 1)


def sparse_to_dense(args: Args) -> Any:
    """Return what is there at its places, zeros elsewhere; before iOS18 the mask is packed bits."""
    data, mask = args.tensor("nonzero_data"), args.tensor("mask")
    if args.has("shape"):
        shape = args.numbers("shape")
        mask = _unpacked(mask, 1, shape).reshape(shape)
    return _dense(data, mask)


def _dense(data: Any, mask: Any) -> Any:
    found = torch.zeros(mask.shape, dtype=data.dtype)
    found[mask != 0] = data
    return found


def _unpacked(packed: Any, bits: int, shape: list[int]) -> Any:
    """Return elements of so many bits, the lowest of each byte first."""
    count = int(torch.tensor(shape).prod())
    ones = (packed.to(held_as("int32")).unsqueeze(-1) >> torch.arange(8)) & 1
    parts = ones.reshape(-1)[: count * bits].reshape(count, bits)
    return (parts << torch.arange(bits)).sum(-1)
