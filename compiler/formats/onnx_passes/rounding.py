"""Round matrices to few bits, block by block, with the scale that loses least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
_CHUNK = 1 << 18
_TINY = np.float32(1e-30)
_SEARCH_BITS = 6
_SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.72)
_STRETCH = (1.0, 0.97, 0.94, 0.91, 0.88, 0.84, 1.04, 1.08)


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix [N, K] as codes: weight = (code - zero) * scale, `zeros` None for the middle.

    codes: uint8 [N, blocks, block_size]; scales: float32 [N, blocks]; zeros: uint8 [N, blocks].
    """

    codes: Codes
    scales: Floats
    zeros: Codes | None
    bits: int

    def packed(self) -> Codes:
        """The codes as MatMulNBits has them: [N, blocks, block_size * bits / 8], low bits first."""
        return _pack(self.codes, self.bits)

    def packed_zeros(self) -> Codes | None:
        """The zero points packed along the blocks: [N, ceil(blocks * bits / 8)]."""
        if self.zeros is None or self.bits == 8:
            return self.zeros
        odd = self.zeros.shape[1] % 2
        return _pack(np.pad(self.zeros, ((0, 0), (0, odd))), self.bits)

    def restored(self, width: int) -> Floats:
        """The matrix that the codes stand for: float32 [N, width]."""
        middle = np.float32(1 << (self.bits - 1))
        zeros = middle if self.zeros is None else self.zeros[..., None].astype(np.float32)
        matrix = (self.codes.astype(np.float32) - zeros) * self.scales[..., None]
        return np.asarray(matrix.reshape(len(matrix), -1)[:, :width], np.float32)


def round_blocks(rows: NDArray[Any], bits: int, block_size: int, symmetric: bool) -> Blocks:
    """Round [N, K] to `bits` (4 or 8) in blocks along K; a last short block is filled with zeros.

    At 4 bits several ranges are tried for each block and the one with the least squared error is
    taken; the scale is then the least-squares one, as in ggml's `make_qx_quants`.
    """
    count, width = rows.shape
    blocks = -(-width // block_size)
    codes = np.empty((count, blocks, block_size), np.uint8)
    scales = np.empty((count, blocks), np.float32)
    zeros = None if symmetric else np.empty((count, blocks), np.uint8)
    step = max(1, _CHUNK // (blocks * block_size))
    for start in range(0, count, step):
        part = slice(start, start + step)
        chunk = np.zeros((len(rows[part]), blocks * block_size), np.float32)
        chunk[:, :width] = rows[part]
        values = chunk.reshape(-1, block_size)
        best = best_of(values, bits, symmetric)
        shape = (len(chunk), blocks)
        codes[part] = best.codes.reshape(*shape, block_size)
        scales[part] = best.scales.reshape(shape)
        if zeros is not None:
            zeros[part] = best.zeros.reshape(shape)
    return Blocks(codes, scales, zeros, bits)


def best_of(values: Floats, bits: int, symmetric: bool, importance: Floats | None = None) -> Best:
    """Return the best rounding of each block of [B, block_size]; `importance` is each column's."""
    best = Best(values, bits, importance)
    for scale, zero in _candidates(values, bits, symmetric):
        best.offer(scale, zero)
    return best


class Best:
    """The best rounding so far of each block of [B, block_size]."""

    def __init__(self, values: Floats, bits: int, importance: Floats | None = None) -> None:
        count = len(values)
        self.values = values
        self._weighed = values if importance is None else values * importance
        self._importance = importance
        self.top = np.float32((1 << bits) - 1)
        middle = 1 << (bits - 1)
        self.codes = np.full(values.shape, middle, np.uint8)
        self.scales = np.zeros(count, np.float32)
        self.zeros = np.full(count, middle, np.uint8)
        self._gain = np.zeros(count, np.float32)

    def offer(self, scale: Floats, zero: Floats) -> None:
        """Take these ranges ([B] each) wherever they lose less.

        With the least-squares scale the squared error is |w|^2 - <w,d>^2 / <d,d>, weighed by the
        importance of the columns.
        """
        found = self.values * (1 / np.where(scale == 0, 1, scale))[:, None]
        np.rint(found, out=found)
        found += zero[:, None]
        np.clip(found, 0, self.top, out=found)
        steps = found - zero[:, None]
        weighed = steps if self._importance is None else steps * self._importance
        along = np.einsum("bk,bk->b", self._weighed, steps)
        power = np.einsum("bk,bk->b", weighed, steps)
        gain = along * along / np.maximum(power, _TINY)
        better = (gain > self._gain) & (scale != 0)
        self._gain[better] = gain[better]
        self.codes[better] = found[better].astype(np.uint8)
        self.scales[better] = along[better] / power[better]
        self.zeros[better] = zero[better].astype(np.uint8)


def _candidates(values: Floats, bits: int, symmetric: bool) -> Iterator[tuple[Floats, Floats]]:
    if symmetric:
        yield from _symmetric(values, bits)
    else:
        yield from _asymmetric(values, bits)


def _symmetric(values: Floats, bits: int) -> Iterator[tuple[Floats, Floats]]:
    """The largest value lies on the end of the side that has one step more, or near it."""
    half = np.float32(1 << (bits - 1))
    place = np.abs(values).argmax(axis=1)
    peak = values[np.arange(len(values)), place]
    zero = np.full(len(values), half, np.float32)
    for factor in _STRETCH if bits < _SEARCH_BITS else _STRETCH[:1]:
        yield peak / (-half * np.float32(factor)), zero


def _asymmetric(values: Floats, bits: int) -> Iterator[tuple[Floats, Floats]]:
    top = np.float32((1 << bits) - 1)
    low, high = np.minimum(values.min(axis=1), 0), np.maximum(values.max(axis=1), 0)
    for factor in _SHRINK if bits < _SEARCH_BITS else _SHRINK[:1]:
        scale = (high - low) * (np.float32(factor) / top)
        zero = np.rint(-low * np.float32(factor) / np.where(scale == 0, 1, scale))
        for shift in (0, -1, 1) if bits < _SEARCH_BITS else (0,):
            yield scale, np.clip(zero + np.float32(shift), 0, top)


def _pack(codes: Codes, bits: int) -> Codes:
    if bits == 8:
        return codes
    return np.asarray(codes[..., ::2] | (codes[..., 1::2] << 4), np.uint8)
