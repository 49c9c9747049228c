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
    """Integers and their scales: the weight is their product.

    `data` int8 (rows, columns), `scale` float16 (rows, columns / block) or (rows, 1).
    """

    data: NDArray[np.int8]
    scale: NDArray[np.float16]
    bits: int

    def dense(self) -> Floats:
        """The weights that the engine computes with."""
        rows, columns = self.data.shape
        repeated = np.repeat(self.scale.astype(np.float32), columns // self.scale.shape[1], axis=1)
        return np.asarray(self.data.astype(np.float32) * repeated).reshape(rows, columns)


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
    """Round rows, or blocks of `block` columns, to a symmetric grid."""
    rows, columns = weight.shape
    largest = 2 ** (bits - 1) - 1
    blocks = weight.reshape(rows, -1, block or columns)
    least = float(np.finfo(np.float16).tiny)
    scale = _best_scale(blocks, largest, clipped=bits < 8).astype(np.float16)
    scale = np.maximum(scale, np.float16(least))
    steps = np.repeat(scale.astype(np.float32), block or columns, axis=1)

    def nearest(column: Any, at: int) -> tuple[Any, Any]:
        step = _tensor(steps[:, at])
        index = (column / step).round().clamp(-largest, largest)
        return index, index * step

    data = _rounded(weight, nearest, moments).astype(np.int8)
    return Grid(data, scale, bits)


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


def _best_scale(blocks: Floats, largest: int, *, clipped: bool) -> Floats:
    """The scale of each block with the least squared error; few bits gain by cutting peaks."""
    peak = np.abs(blocks).max(axis=2) / largest
    if not clipped:
        return np.asarray(peak, np.float32)
    best, least = peak, np.full(peak.shape, np.inf, np.float32)
    for share in np.linspace(0.6, 1.0, 21, dtype=np.float32):
        step = np.maximum(peak * share, 1e-12)[..., None]
        kept = np.clip(np.round(blocks / step), -largest, largest) * step
        error = ((blocks - kept) ** 2).sum(axis=2)
        best = np.where(error < least, peak * share, best)
        least = np.minimum(error, least)
    return np.asarray(best, np.float32)


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
