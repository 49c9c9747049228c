"""Operators that move elements: shapes, slices, joins, paddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from edgeward.errors import EngineError

from ..values import Args

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "replicate"}


def shape(args: Args) -> Any:
    """Return the sizes of the axes."""
    return torch.tensor(args.tensor("x").shape, dtype=torch.int64)


def reshape(args: Args) -> Any:
    """Return x in another shape: 0 keeps an axis, -1 is what is left."""
    x, wanted = args.tensor("x"), args.numbers("shape")
    if 0 in wanted and len(wanted) == x.ndim:
        wanted = [one or x.shape[at] for at, one in enumerate(wanted)]
    return x.reshape(wanted)


def reshape_like(args: Args) -> Any:
    """Return x in a shape that is put together from those of other tensors."""
    begins, ends = args.numbers("begins"), args.numbers("ends")
    wanted: list[int] = []
    for one, begin, end, mask in zip(
        args.tensors("ref_tensors"), begins, ends, args.numbers("end_masks"), strict=True
    ):
        wanted += one.shape[begin:] if mask else one.shape[begin:end]
    return args.tensor("x").reshape(wanted)


def flatten2d(args: Args) -> Any:
    """Return x with two axes, divided before an axis."""
    x, axis = args.tensor("x"), args.number("axis", 1)
    at = axis % x.ndim if axis < 0 else axis
    rows = 1
    for size in x.shape[:at]:
        rows *= size
    return x.reshape(rows, -1)


def transpose(args: Args) -> Any:
    """Return x with its axes in another order."""
    return args.tensor("x").permute(args.numbers("perm"))


def expand_dims(args: Args) -> Any:
    """Return x with axes of one, at places of the result."""
    x, axes = args.tensor("x"), args.numbers("axes")
    rank = x.ndim + len(axes)
    for axis in sorted(one % rank for one in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(args: Args) -> Any:
    """Return x without axes of one."""
    x = args.tensor("x")
    if not args.has("axes"):
        return x.squeeze()
    for axis in sorted((one % x.ndim for one in args.numbers("axes")), reverse=True):
        x = x.squeeze(axis)
    return x


def slice_by_index(args: Args) -> Any:
    """Return x[begin:end:stride], as numpy does it."""
    return _sliced(args, args.tensor("x"))


def slice_update(args: Args) -> Any:
    """Return x with a slice of it replaced."""
    x = args.tensor("x").clone()
    places = torch.arange(x.numel()).reshape(x.shape)
    flat = x.reshape(-1)
    flat[_sliced(args, places).reshape(-1)] = args.tensor("update").to(x.dtype).reshape(-1)
    return flat.reshape(x.shape)


def _sliced(args: Args, x: Any) -> Any:
    begins, ends = args.numbers("begin"), args.numbers("end")
    strides = args.numbers("stride", [1] * x.ndim)
    squeezed = args.flags("squeeze_mask", x.ndim)
    free = args.flags("begin_mask", x.ndim), args.flags("end_mask", x.ndim)
    for axis in reversed(range(x.ndim)):
        size = x.shape[axis]
        begin = None if free[0][axis] else begins[axis]
        end = None if free[1][axis] else ends[axis]
        if squeezed[axis]:
            x = x.select(axis, 0 if begin is None else begin)
            continue
        taken = range(*slice(begin, end, strides[axis]).indices(size))
        if strides[axis] > 0:
            x = x[(slice(None),) * axis + (slice(taken.start, taken.stop, taken.step),)]
        else:
            x = x.index_select(axis, torch.tensor(list(taken), dtype=torch.int64))
    return x


def slice_by_size(args: Args) -> Any:
    """Return x from a place on, so many elements of each axis; -1 is all that follow."""
    x = args.tensor("x")
    for axis, (begin, size) in enumerate(
        zip(args.numbers("begin"), args.numbers("size"), strict=True)
    ):
        start = begin % x.shape[axis] if begin < 0 else begin
        x = x.narrow(axis, start, x.shape[axis] - start if size == -1 else size)
    return x


def concat(args: Args) -> Any:
    """Return tensors one after the other along an axis, or element by element of it."""
    values, axis = args.tensors("values"), args.number("axis")
    if not args.flag("interleave"):
        return torch.cat(values, axis)
    axis %= values[0].ndim
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def stack(args: Args) -> Any:
    """Return tensors along an axis of their own."""
    return torch.stack(args.tensors("values"), args.number("axis"))


def split(args: Args) -> Any:
    """Return x in parts along an axis."""
    x, axis = args.tensor("x"), args.number("axis")
    sizes = args.numbers("split_sizes")
    if not sizes:
        count = args.number("num_splits")
        sizes = [x.shape[axis] // count] * count
    return tuple(torch.split(x, sizes, axis))


def pad(args: Args) -> Any:
    """Return x with its last axes longer: a constant, a mirror, or the edge."""
    x, pads, mode = args.tensor("x"), args.numbers("pad"), args.text("mode", "constant")
    pairs = [tuple(pads[at : at + 2]) for at in range(0, len(pads), 2)]
    first = x.ndim - len(pairs)
    if mode == "constant":
        flat = [one for pair in reversed(pairs) for one in pair]
        return F.pad(
            x, flat, value=args.values["constant_val"].item() if args.has("constant_val") else 0
        )
    for axis, (before, after) in enumerate(pairs, first):
        if before or after:
            x = x.index_select(axis, _beyond(x.shape[axis], before, after, _PAD_MODES[mode]))
    return x


def _beyond(size: int, before: int, after: int, mode: str) -> Any:
    places = torch.arange(-before, size + after)
    if mode == "replicate":
        return places.clamp(0, size - 1)
    places = places.abs()
    return torch.where(places >= size, 2 * (size - 1) - places, places)


def tile(args: Args) -> Any:
    """Return x so many times along each axis."""
    return args.tensor("x").repeat(args.numbers("reps"))


def reverse(args: Args) -> Any:
    """Return x backwards along axes."""
    x = args.tensor("x")
    return torch.flip(x, args.numbers("axes", range(x.ndim)))


def reverse_sequence(args: Args) -> Any:
    """Return each row's first elements backwards, as many as its length says."""
    x, lengths = args.tensor("x"), args.numbers("lengths")
    seq, batch = args.number("seq_axis") % x.ndim, args.number("batch_axis") % x.ndim
    found = x.clone()
    for row, length in enumerate(lengths):
        at = seq if seq < batch else seq - 1
        line = found.select(batch, row)
        line.narrow(at, 0, length).copy_(x.select(batch, row).narrow(at, 0, length).flip(at))
    return found


def sliding_windows(args: Args) -> Any:
    """Return windows along an axis, each an axis after it."""
    x = args.tensor("x")
    axis = args.number("axis") % x.ndim
    windows = x.unfold(axis, args.number("size"), args.number("stride", 1))
    return windows.movedim(-1, axis + 1)


def depth_to_space(args: Args) -> Any:
    """Return channels as blocks of a picture; the block comes before the channel."""
    x, by = args.tensor("x"), args.number("block_size")
    rows, channels, high, wide = x.shape
    parts = x.reshape(rows, by, by, channels // by**2, high, wide).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(rows, channels // by**2, high * by, wide * by)


def space_to_depth(args: Args) -> Any:
    """Return blocks of a picture as channels; the block comes before the channel."""
    x, by = args.tensor("x"), args.number("block_size")
    rows, channels, high, wide = x.shape
    parts = x.reshape(rows, channels, high // by, by, wide // by, by).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(rows, channels * by**2, high // by, wide // by)


def pixel_shuffle(args: Args) -> Any:
    """Return channels as blocks of a picture; the channel comes first."""
    return F.pixel_shuffle(args.tensor("x"), args.number("upscale_factor"))


def pixel_unshuffle(args: Args) -> Any:
    """Return blocks of a picture as channels; the channel comes first."""
    return F.pixel_unshuffle(args.tensor("x"), args.number("downscale_factor"))


def space_to_batch(args: Args) -> Any:
    """Return blocks of a picture as rows."""
    high, wide = args.numbers("block_shape")
    top, bottom, left, right = args.numbers("paddings")
    x = F.pad(args.tensor("x"), [left, right, top, bottom])
    rows, channels, tall, broad = x.shape
    parts = x.reshape(rows, channels, tall // high, high, broad // wide, wide)
    parts = parts.permute(3, 5, 0, 1, 2, 4)
    return parts.reshape(rows * high * wide, channels, tall // high, broad // wide)


def batch_to_space(args: Args) -> Any:
    """Return rows as blocks of a picture, cropped."""
    high, wide = args.numbers("block_shape")
    top, bottom, left, right = args.numbers("crops")
    x = args.tensor("x")
    many, channels, tall, broad = x.shape
    parts = x.reshape(high, wide, many // (high * wide), channels, tall, broad)
    whole = parts.permute(2, 3, 4, 0, 5, 1).reshape(-1, channels, tall * high, broad * wide)
    return whole[:, :, top : tall * high - bottom, left : broad * wide - right]


def crop(args: Args) -> Any:
    """Return x less what is cut from its last two axes."""
    x = args.tensor("x")
    (top, bottom), (left, right) = args.numbers("crop_height"), args.numbers("crop_width")
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def fill(args: Args) -> Any:
    """Return a tensor of one value."""
    return _filled(args, args.numbers("shape"))


def fill_like(args: Args) -> Any:
    """Return a tensor of one value, in another's shape."""
    return _filled(args, args.tensor("ref_tensor").shape)


def _filled(args: Args, sizes: Sequence[int]) -> Any:
    value = args.maybe("value")
    return torch.zeros(list(sizes)) if value is None else value.reshape(()).expand(list(sizes))


def range_1d(args: Args) -> Any:
    """Return start, start + step, … below end."""
    start, end, step = (args.tensor(name) for name in ("start", "end", "step"))
    if float(step) == 0:
        raise EngineError("range_1d has a step of 0")
    return torch.arange(start.item(), end.item(), step.item())


def band_part(args: Args) -> Any:
    """Return x with zeros outside of a band around the diagonal."""
    x, lower, upper = args.tensor("x"), args.number("lower", -1), args.number("upper", -1)
    down = torch.arange(x.shape[-2]).unsqueeze(1) - torch.arange(x.shape[-1])
    kept = torch.ones_like(down, dtype=torch.bool)
    if lower >= 0:
        kept &= down <= lower
    if upper >= 0:
        kept &= -down <= upper
    return torch.where(kept, x, torch.zeros_like(x))


def one_hot(args: Args) -> Any:
    """Return vectors that are on at an index, along a new axis; beyond the size all are off."""
    indices, size = args.tensor("indices").long(), args.number("one_hot_vector_size")
    axis = args.number("axis", -1) % (indices.ndim + 1)
    at = torch.arange(size).reshape([-1] + [1] * (indices.ndim - axis))
    on = args.maybe("on_value")
    off = args.maybe("off_value")
    return torch.where(
        indices.unsqueeze(axis) == at,
        torch.tensor(1) if on is None else on,
        torch.tensor(0) if off is None else off,
    )
