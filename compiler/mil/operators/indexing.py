"""Gather and scatter."""

from __future__ import annotations

from typing import Any

import torch

from edgeward.errors import EngineError

from ..values import Args

_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def gather(args: Args) -> Any:
    """Return slices of x at indices of an axis, the first axes in common where asked for."""
    x, axis = args.tensor("x"), args.number("axis")
    axis %= max(x.ndim, 1)
    places, shared = args.tensor("indices").long(), args.number("batch_dims")
    if not shared:
        shape = [*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]]
        return x.index_select(axis, _positive(places, x.shape[axis]).reshape(-1)).reshape(shape)
    rows = x.shape[:shared]
    many = int(torch.tensor(rows).prod())
    each = zip(
        x.reshape(many, *x.shape[shared:]),
        places.reshape(many, *places.shape[shared:]),
        strict=True,
    )
    found = torch.stack([_taken(one, at, axis - shared) for one, at in each])
    return found.reshape(*rows, *found.shape[1:])


def _taken(x: Any, places: Any, axis: int) -> Any:
    shape = [*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]]
    return x.index_select(axis, _positive(places, x.shape[axis]).reshape(-1)).reshape(shape)


def gather_along_axis(args: Args) -> Any:
    """Return the element at each index along an axis."""
    x, axis = args.tensor("x"), args.number("axis")
    return x.gather(axis, _positive(args.tensor("indices").long(), x.shape[axis]))


def gather_nd(args: Args) -> Any:
    """Return slices of x, each at the place that the last axis of indices says."""
    x, shared = args.tensor("x"), args.number("batch_dims")
    places = args.tensor("indices").long()
    rows = [
        torch.arange(size).reshape([-1 if at == axis else 1 for at in range(places.ndim - 1)])
        for axis, size in enumerate(x.shape[:shared])
    ]
    sizes = x.shape[shared : shared + places.shape[-1]]
    columns = [_positive(one, size) for one, size in zip(places.unbind(-1), sizes, strict=True)]
    return x[tuple(rows + columns)]


def scatter(args: Args) -> Any:
    """Put slices into data at indices of an axis."""
    data, axis = args.tensor("data"), args.number("axis")
    axis %= data.ndim
    places, updates = args.tensor("indices").long(), args.tensor("updates")
    along = _positive(places.reshape(-1), data.shape[axis])
    flat = updates.reshape([*data.shape[:axis], -1, *data.shape[axis + 1 :]])
    shape = [-1 if at == axis else 1 for at in range(data.ndim)]
    return _put(args, data, along.reshape(shape).expand(flat.shape), flat, axis)


def scatter_along_axis(args: Args) -> Any:
    """Put each element into data at its index along an axis."""
    data, axis = args.tensor("data"), args.number("axis")
    places = _positive(args.tensor("indices").long(), data.shape[axis])
    return _put(args, data, places, args.tensor("updates"), axis)


def scatter_nd(args: Args) -> Any:
    """Put slices into data, each at the place that the last axis of indices says."""
    data, places = args.tensor("data"), args.tensor("indices").long()
    depth = places.shape[-1]
    sizes, rest = list(data.shape[:depth]), list(data.shape[depth:])
    flat = torch.zeros(places.shape[:-1], dtype=torch.int64)
    for one, size in zip(places.unbind(-1), sizes, strict=True):
        flat = flat * size + _positive(one, size)
    rows = data.reshape(-1, *rest)
    updates = args.tensor("updates").reshape(-1, *rest)
    along = flat.reshape([-1] + [1] * len(rest)).expand(updates.shape)
    return _put(args, rows, along, updates, 0).reshape(data.shape)


def _put(args: Args, data: Any, places: Any, updates: Any, axis: int) -> Any:
    mode, updates = args.text("mode", "add"), updates.to(data.dtype)
    if mode == "update":
        return data.scatter(axis, places, updates)
    if mode == "sub":
        mode, updates = "add", -updates
    if mode == "div":
        mode, updates = "mul", 1 / updates
    if mode not in _REDUCE:
        raise EngineError(f"{args.operator} has a mode that is not known: {mode}")
    return data.scatter_reduce(axis, places, updates, _REDUCE[mode], include_self=True)


def _positive(places: Any, size: int) -> Any:
    return torch.where(places < 0, places + size, places)
