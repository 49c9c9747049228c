"""How weights are rounded for Core ML: on a grid or to tables of values, columns one after another.

Rounding a column of a product's weights leaves an error; GPTQ (Frantar et al. 2022, arXiv
2210.17323) lets the columns that are not rounded yet make up for it, as far as what flows into the
product is alike. `moments` (columns, columns) are the sums of that, by `coreml_moments.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_STEPS = 40
_DAMPING = 0.05
_BLOCK = 128
_KNOTS = 2048


@dataclass(frozen=True, slots=True)
class Grid:
    """Integers, their scales and what they are at zero: a weight is scale * (data - offset).

    `data` int8 (rows, columns), `scale` float16 (rows, columns / block) or (rows, 1), `offset` int8
    of the same shape, None where it is 0 everywhere.
    """

    data: NDArray[np.int8]
    scale: NDArray[np.float16]
    bits: int
    offset: NDArray[np.int8] | None = None

    def dense(self) -> Floats:
        """The weights that the engine computes with."""
        times = self.data.shape[1] // self.scale.shape[1]
        whole = self.data.astype(np.float32)
        if self.offset is not None:
            whole -= np.repeat(self.offset, times, axis=1)
        return np.asarray(whole * np.repeat(self.scale.astype(np.float32), times, axis=1))


@dataclass(frozen=True, slots=True)
class Table:
    """Indices into tables of values; `group` rows share one.

    `indices` uint8 (rows, columns), `values` float16 (rows / group, 2 ** bits).
    """

    indices: NDArray[np.uint8]
    values: NDArray[np.float16]
    bits: int

    def dense(self) -> Floats:
        """The weights that the engine computes with."""
        group = len(self.indices) // len(self.values)
        own = np.repeat(self.values.astype(np.float32), group, axis=0)
        return np.take_along_axis(own, self.indices.astype(np.int64), axis=1)


Rounded = Grid | Table


def to_grid(weight: Floats, bits: int, block: int | None, moments: Any = None) -> Grid:
    """Round rows to a symmetric grid, or blocks of `block` columns to one of their own range."""
    rows, columns = weight.shape
    blocks = weight.reshape(rows, -1, block or columns)
    least, largest = _ends(bits, symmetric=block is None)
    scale, offset = _best_grid(blocks, (least, largest), clipped=bits < 8)
    steps = np.repeat(scale.astype(np.float32), block or columns, axis=1)
    zeros = np.repeat(offset, block or columns, axis=1)

    def nearest(column: Any, at: int) -> tuple[Any, Any]:
        step, zero = _tensor(steps[:, at]), _tensor(zeros[:, at])
        index = ((column / step).round() + zero).clamp(least, largest)
        return index, (index - zero) * step

    data = _rounded(weight, nearest, moments).astype(np.int8)
    return Grid(data, scale, bits, None if block is None else offset.astype(np.int8))


def to_table(weight: Floats, bits: int, group: int | None, moments: Any = None) -> Table:
    """Round to 2 ** `bits` values that `group` rows share (all of them where None)."""
    rows, columns = weight.shape
    shared = group or rows
    importance = np.ones(columns, np.float32)
    if moments is not None:
        importance = np.asarray(moments.diagonal().clamp(min=1e-8).numpy(), np.float32)
    centres = _tables(weight.reshape(rows // shared, -1), np.tile(importance, shared), 2**bits)
    values = centres.astype(np.float16)
    own = _tensor(np.repeat(values.astype(np.float32), shared, axis=0))

    def nearest(column: Any, at: int) -> tuple[Any, Any]:
        del at
        middles = (own[:, 1:] + own[:, :-1]) / 2
        index = (column[:, None] > middles).sum(dim=1)
        return index, own.gather(1, index[:, None])[:, 0]

    return Table(_rounded(weight, nearest, moments).astype(np.uint8), values, bits)


def _rounded(
    weight: Floats, nearest: Callable[[Any, int], tuple[Any, Any]], moments: Any
) -> NDArray[np.int64]:
    """Round column by column, each error spread over those after it where moments are known."""
    import torch

    left = _tensor(weight).clone()
    columns = left.shape[1]
    indices = torch.empty(left.shape, dtype=torch.int64)
    if moments is None:
        for at in range(columns):
            indices[:, at] = nearest(left[:, at], at)[0].long()
        return np.asarray(indices.numpy())
    spread = _spread(moments)
    for start in range(0, columns, _BLOCK):
        end = min(start + _BLOCK, columns)
        errors = torch.zeros((len(left), end - start))
        for at in range(start, end):
            index, value = nearest(left[:, at], at)
            indices[:, at] = index.long()
            error = (left[:, at] - value) / spread[at, at]
            left[:, at:end] -= error[:, None] * spread[at, at:end][None]
            errors[:, at - start] = error
        left[:, end:] -= errors @ spread[start:end, end:]
    return np.asarray(indices.numpy())


def _spread(moments: Any) -> Any:
    """The upper Cholesky factor of the inverse of the damped moments."""
    import torch

    damped = moments.to(torch.float64).clone()
    idle = damped.diagonal() == 0
    damped[idle, idle] = 1
    damped += torch.eye(len(damped), dtype=torch.float64) * damped.diagonal().mean() * _DAMPING
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).float()


def _ends(bits: int, *, symmetric: bool) -> tuple[int, int]:
    """The least and the largest integer; as many below zero as above where it is symmetric."""
    largest = 2 ** (bits - 1) - 1
    return (-largest if symmetric else -largest - 1), largest


def _best_grid(
    blocks: Floats, ends: tuple[int, int], *, clipped: bool
) -> tuple[NDArray[np.float16], Floats]:
    """The scale and the zero of each block with the least squared error (rows, blocks).

    Few bits gain by cutting peaks. Zero stays a number of the grid, and the zero of a symmetric
    one is 0.
    """
    best, least = _grid(blocks, ends, 1.0), np.full(blocks.shape[:2], np.inf, np.float32)
    for share in np.linspace(0.6, 1.0, 21) if clipped else ():
        scale, zero = _grid(blocks, ends, float(share))
        step = scale.astype(np.float32)[..., None]
        whole = np.clip(np.round(blocks / step) + zero[..., None], *ends)
        error = ((blocks - (whole - zero[..., None]) * step) ** 2).sum(axis=2)
        better = error < least
        best = np.where(better, scale, best[0]), np.where(better, zero, best[1])
        least = np.minimum(error, least)
    return best


def _grid(
    blocks: Floats, ends: tuple[int, int], share: float
) -> tuple[NDArray[np.float16], Floats]:
    """The grid over a share of each block's range."""
    least, largest = ends
    if least == -largest:
        step = np.abs(blocks).max(axis=2) * share / largest
        return _halved(step), np.zeros(step.shape, np.float32)
    low = np.minimum(blocks.min(axis=2), 0) * share
    high = np.maximum(blocks.max(axis=2), 0) * share
    step = _halved((high - low) / (largest - least))
    zero = np.clip(np.round(least - low / step.astype(np.float32)), least, largest)
    return step, np.asarray(zero, np.float32)


def _halved(step: Floats) -> NDArray[np.float16]:
    """A step in float16, never zero."""
    return np.asarray(np.maximum(step, np.finfo(np.float16).tiny), np.float16)


def _tables(groups: Floats, importance: Floats, size: int) -> Floats:
    """Weighted k-means in one dimension (Lloyd 1982): (groups, size) values in rising order."""
    import torch

    found = []
    for group in groups:
        points, weights = _tensor(group), _tensor(importance)
        order = points.argsort()
        points, weights = points[order], weights[order]
        mass = torch.cat([torch.zeros(1), weights]).double().cumsum(0)
        centres = _first_guess(points, mass[1:], size)
        sums = torch.cat([torch.zeros(1), weights * points]).double().cumsum(0)
        for _ in range(_STEPS):
            edges = torch.searchsorted(points, (centres[1:] + centres[:-1]) / 2)
            bounds = torch.cat([torch.zeros(1).long(), edges, torch.tensor([len(points)])])
            held = mass[bounds[1:]] - mass[bounds[:-1]]
            means = (sums[bounds[1:]] - sums[bounds[:-1]]) / held.clamp(min=1e-12)
            centres = torch.where(held > 0, means, centres.double()).float().sort().values
        found.append(centres.numpy())
    return np.stack(found)


def _first_guess(points: Any, mass: Any, size: int) -> Any:
    """Values as dense as the cube root of the points' density (Panter and Dite 1951).

    That is what k-means comes to for many values; from evenly filled ones it does not come there
    in hundreds of steps.
    """
    import torch

    distinct = points.unique()
    if len(distinct) <= size:
        return torch.cat([distinct, distinct[-1:].expand(size - len(distinct))])
    at = torch.linspace(0, len(points) - 1, min(len(points), _KNOTS)).long()
    knots = points[at].double()
    share = mass[at].diff().pow(1 / 3) * knots.diff().pow(2 / 3)
    reached = torch.cat([torch.zeros(1).double(), share.cumsum(0)])
    wanted = reached[-1] * (np.arange(size) + 0.5) / size
    return torch.from_numpy(np.interp(wanted.numpy(), reached.numpy(), knots.numpy())).float()


def _tensor(array: NDArray[Any]) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
