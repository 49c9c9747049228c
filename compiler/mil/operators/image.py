"""Resizing and sampling of pictures: each axis by the places that a sampling mode says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from edgeward.errors import EngineError

from ..values import Args

_PADDING = {"constant": "zeros", "border": "border", "reflection": "reflection"}


def resize_bilinear(args: Args) -> Any:
    """Resize the last two axes by interpolation."""
    wanted = args.number("target_size_height", 1), args.number("target_size_width", 1)
    return _resized(args.tensor("x"), wanted, args.text("sampling_mode", "DEFAULT"), _linear)


def resize_nearest_neighbor(args: Args) -> Any:
    """Resize the last two axes by repetition."""
    x = args.tensor("x")
    wanted = args.number("target_size_height"), args.number("target_size_width")
    return _repeated(x, wanted)


def upsample_nearest_neighbor(args: Args) -> Any:
    """Enlarge the last two axes by repetition."""
    x = args.tensor("x")
    return _repeated(x, _enlarged(args, x))


def upsample_bilinear(args: Args) -> Any:
    """Enlarge the last two axes by interpolation."""
    x, corners = args.tensor("x"), args.flag("align_corners", True)
    if corners:
        mode = "STRICT_ALIGN_CORNERS"
    else:
        mode = "UNALIGN_CORNERS" if args.flag("half_pixel_centers", True) else "DEFAULT"
    return _resized(x, _enlarged(args, x), mode, _linear)


def resize(args: Args) -> Any:
    """Resize the last axes to a shape, where 0 keeps a size."""
    x, count = args.tensor("x"), args.number("resized_dims")
    wanted = args.numbers("shape")[-count:]
    sizes = [one or x.shape[at - count] for at, one in enumerate(wanted)]
    mode = args.text("sampling_mode", "DEFAULT")
    if args.text("interpolation_mode", "LINEAR") == "LINEAR":
        return _resized(x, sizes, mode, _linear)
    return _repeated(x, sizes) if mode == "DEFAULT" else _resized(x, sizes, mode, _nearest)


def _enlarged(args: Args, x: Any) -> tuple[int, int]:
    high, wide = args.real("scale_factor_height", 1), args.real("scale_factor_width", 1)
    return int(x.shape[-2] * high), int(x.shape[-1] * wide)


def _repeated(x: Any, wanted: Any) -> Any:
    for axis, size in enumerate(wanted, -len(wanted)):
        places = torch.arange(size) * x.shape[axis] // size
        x = x.index_select(axis, places)
    return x


def _resized(x: Any, wanted: Any, mode: str, by: Callable[[Any, int, Any], Any]) -> Any:
    for axis, size in enumerate(wanted, -len(wanted)):
        x = by(x, axis, grid(x.shape[axis], size, mode))
    return x


def grid(size: int, wanted: int, mode: str) -> Any:
    """Return the places of `wanted` samples on an axis of `size`, float64.

    Source: the docstring of coremltools' iOS15 `resize_bilinear`.
    """
    steps, last = torch.arange(wanted, dtype=torch.float64), size - 1
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if wanted == 1:
            return torch.tensor([last / 2 if mode == "ALIGN_CORNERS" else 0.0]).double()
        return steps * last / (wanted - 1)
    if mode == "DEFAULT":
        return (steps * size / wanted).clamp(0, last)
    if mode == "OFFSET_CORNERS":
        delta = max(1, last) / wanted
        return (0.5 * delta + steps * delta).clamp(0, last)
    if mode == "UNALIGN_CORNERS":
        spacing = size / wanted
        return (steps * spacing + 0.5 * spacing - 0.5).clamp(0, last)
    raise EngineError(f"A resize has a sampling mode that is not known: {mode}")


def _linear(x: Any, axis: int, places: Any) -> Any:
    low = places.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    share = (places - low).float().reshape([-1] + [1] * (-axis - 1))
    x = x.float()
    return torch.lerp(x.index_select(axis, low), x.index_select(axis, high), share)


def _nearest(x: Any, axis: int, places: Any) -> Any:
    return x.index_select(axis, (places + 0.5).floor().long().clamp(max=x.shape[axis] - 1))


def resample(args: Args) -> Any:
    """Sample a picture at coordinates (x, y)."""
    x, at = args.tensor("x"), args.tensor("coordinates").float()
    corners = args.flag("align_corners")
    sizes = torch.tensor([x.shape[-1], x.shape[-2]], dtype=torch.float32)
    mode = args.text("coordinates_mode")
    if mode == "unnormalized":
        corners, at = True, at / (sizes - 1).clamp(min=1) * 2 - 1
    elif mode == "normalized_zero_to_one":
        at = at * 2 - 1
    return _sampled(args, x, at, corners)


def affine(args: Args) -> Any:
    """Sample a picture where a matrix of each row puts the result's places."""
    x = args.tensor("x")
    matrix = args.tensor("transform_matrix").reshape(-1, 2, 3).expand(x.shape[0], 2, 3)
    wanted = [*x.shape[:2], args.number("output_height"), args.number("output_width")]
    corners = args.flag("align_corners", True)
    return _sampled(args, x, F.affine_grid(matrix, wanted, align_corners=corners), corners)


def _sampled(args: Args, x: Any, at: Any, corners: bool) -> Any:
    padding, by = args.text("padding_mode", "constant"), args.text("sampling_mode", "bilinear")
    value = args.real("padding_value")
    if padding not in _PADDING:
        raise EngineError(f"{args.operator} has a padding mode that is not known: {padding}")
    shifted = x - value if padding == "constant" else x
    found = F.grid_sample(
        shifted, at, mode=by, padding_mode=_PADDING[padding], align_corners=corners
    )
    return found + value if padding == "constant" else found


def crop_resize(args: Args) -> Any:
    """Resize boxes of pictures: (boxes, channels, height, width), before iOS17 (boxes, 1, …)."""
    x, old = args.tensor("x"), args.has("roi")
    boxes, rows = _boxes(args, x)
    found = [_cropped(args, x[row], box) for box, row in zip(boxes, rows, strict=True)]
    stacked = torch.stack(found)
    return stacked.unsqueeze(1) if old else stacked


def _boxes(args: Args, x: Any) -> tuple[Any, list[int]]:
    if args.has("roi"):
        boxes = args.tensor("roi").reshape(args.tensor("roi").shape[0], -1)
        if boxes.shape[1] == 5:
            return boxes[:, 1:], [int(one) for one in boxes[:, 0]]
        if x.shape[0] != 1:
            raise EngineError("crop_resize without indices is computed of one picture only")
        return boxes, [0] * len(boxes)
    boxes = args.tensor("boxes").float()
    return boxes, args.numbers("box_indices", range(len(boxes)))


def _cropped(args: Args, x: Any, box: Any) -> Any:
    first, second, third, fourth = (float(one) for one in box)
    mode = args.text("box_coordinate_mode", "CORNERS_HEIGHT_FIRST")
    if mode.startswith("CENTER"):
        first, second, third, fourth = (
            first - third / 2,
            second - fourth / 2,
            first + third / 2,
            second + fourth / 2,
        )
    starts, ends = (first, second), (third, fourth)
    if mode.endswith("WIDTH_FIRST"):
        starts, ends = starts[::-1], ends[::-1]
    wanted = args.number("target_height", 1), args.number("target_width", 1)
    for axis, start, end, size in zip((-2, -1), starts, ends, wanted, strict=True):
        scale = args.real("spatial_scale", 1.0)
        if args.flag("normalized_coordinates"):
            scale *= x.shape[axis] - 1
        x = _line(args, x, axis, (start * scale, end * scale), size)
    return x


def _line(args: Args, x: Any, axis: int, ends: tuple[float, float], wanted: int) -> Any:
    mode = args.text("sampling_mode", "DEFAULT")
    start, end = ends
    steps = torch.arange(wanted, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        middle = (start + end) / 2 if mode == "ALIGN_CORNERS" else start
        places = start + steps * (end - start) / max(wanted - 1, 1)
        places = places if wanted > 1 else torch.tensor([middle]).double()
    elif mode == "DEFAULT":
        places = start + steps * (end - start) / wanted
    else:
        spacing = (end - start) / wanted
        places = start + spacing / 2 + steps * spacing
        if mode == "UNALIGN_CORNERS":
            places = places - 0.5
    inside = (places >= 0) & (places <= x.shape[axis] - 1)
    found = _linear(x, axis, places.clamp(0, x.shape[axis] - 1))
    by = inside.reshape([-1] + [1] * (-axis - 1))
    return torch.where(by, found, torch.tensor(args.real("pad_value")))
