"""Large tensors are written some rows at a time, so that no second copy of one is ever whole.

llama.cpp's converter keeps every step of a tensor until it is written, and the result twice. It
has a tensor of parts for models that come in parts: here all that are large become one. The bytes
are the same, since blocks never cross a row.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import prod
from typing import Any

_PART_BYTES = 16 << 20

Modify = Callable[..., Iterable[tuple[str, Any]]]


def by_rows(modify: Modify) -> Modify:
    """Return what a converter's `modify_tensors` gives, large tensors to be written by rows."""

    def modified(*given: Any) -> Iterator[tuple[str, Any]]:
        for name, tensor in modify(*given):
            shape = tuple(tensor.shape)
            large = len(shape) > 1 and prod(shape) * tensor.dtype.itemsize > _PART_BYTES
            yield name, _Rows(tensor) if large else tensor

    return modified


class _Rows:
    """A torch tensor that is not computed yet, as far as the converter asks of it."""

    def __init__(self, tensor: Any) -> None:
        self._tensor: Any = tensor
        self._whole: Any = None

    def numpy(self) -> Any:
        """Return it as parts of whole rows; computed at the first part, let go at the last."""
        shape, width = tuple(self._tensor.shape), self._tensor.dtype.itemsize
        step = max(1, _PART_BYTES // (prod(shape[1:]) * width))
        parts = [partial(self._part, start, start + step) for start in range(0, shape[0], step)]
        gguf = importlib.import_module("gguf")
        return gguf.LazyChunkedTensor(parts, shape, self._tensor.numpy().dtype)

    def _part(self, start: int, end: int) -> Any:
        if self._whole is None:
            lazy = importlib.import_module("conversion").LazyTorchTensor
            self._whole = lazy.to_eager(self._tensor).numpy()
            self._tensor = None
        part = self._whole[start:end]
        if end >= len(self._whole):
            self._whole = None
        return part
