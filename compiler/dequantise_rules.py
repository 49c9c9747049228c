"""How compressed weights become numbers again: one function a way of packing.

Each takes its parts by their role and gives float32. Layouts: compressed-tensors 0.19
(`pack_to_int32`, NVFP4, MXFP4), AutoGPTQ (`qlinear_cuda_old.pack`), AutoAWQ (`WQLinear_GEMM`),
DeepSeek-V3 (`weight_dequant`), OpenAI's MXFP4 (transformers' `convert_moe_packed_tensors`), NVIDIA
ModelOpt's unified checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .safetensors_read import E8M0, Entry, read_floats, read_stored

Floats = NDArray[np.float32]
_WORD = 32
_FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
FP4 = np.concatenate([_FP4, -_FP4])
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True, slots=True)
class Restored:
    """One weight to make: its name and shape, its rule, its parts by role, the rule's numbers."""

    name: str
    shape: tuple[int, ...]
    rule: str
    parts: Mapping[str, Entry]
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Floats:
        """Return the weight; ValueError where its parts do not fit each other."""
        return RULES[self.rule](self)


def unpacked(words: NDArray[Any], bits: int, count: int) -> NDArray[np.int32]:
    """Return `count` unsigned numbers a row from rows of 32-bit words, lowest bits first.

    A number may lie across two words.
    """
    rows = np.ascontiguousarray(words).view(np.uint32).astype(np.uint64)
    padded = np.concatenate([rows, np.zeros((len(rows), 1), np.uint64)], axis=1)
    at = np.arange(count) * bits
    word, shift = at // _WORD, (at % _WORD).astype(np.uint64)
    pairs = padded[:, word] | (padded[:, word + 1] << np.uint64(_WORD))
    numbers: NDArray[np.int32] = ((pairs >> shift) & np.uint64((1 << bits) - 1)).astype(np.int32)
    return numbers


def spread(scales: Floats, shape: tuple[int, ...], block: tuple[int, int] | None) -> Floats:
    """Return scales for every number of (rows, columns).

    They are one, one a row, one a group of a row's columns, or one a block of a given size.
    ValueError for any other.
    """
    rows, columns = shape
    if scales.size == 1:
        return scales.reshape(1, 1)
    if scales.ndim == 1:
        scales = scales[:, None]
    if block is not None and scales.shape != (rows, 1):
        tall, wide = np.repeat(scales, block[0], axis=0)[:rows], block[1]
        found = np.repeat(tall, wide, axis=1)[:, :columns]
    elif scales.shape[0] == rows and columns % scales.shape[1] == 0:
        found = np.repeat(scales, columns // scales.shape[1], axis=1)
    else:
        raise ValueError(f"scales of {scales.shape} do not fit {shape}")
    if found.shape != shape:
        raise ValueError(f"scales of {scales.shape} do not fit {shape}")
    return found


def _scaled(job: Restored) -> Floats:
    """Eight-bit weights: number times scale, less a zero point."""
    numbers = read_floats(job.parts["weight"])
    block = job.numbers.get("block")
    scales = spread(read_floats(job.parts["scale"]), job.shape, block)
    if "zero" in job.parts:
        numbers = numbers - spread(read_floats(job.parts["zero"]), job.shape, block)
    return numbers * scales


def _packed(job: Restored) -> Floats:
    """compressed-tensors' `weight_packed`: numbers of few bits in words, moved to be unsigned."""
    bits, (rows, columns) = int(job.numbers["bits"]), job.shape
    middle = 1 << (bits - 1)
    numbers = unpacked(read_stored(job.parts["weight"]), bits, columns) - middle
    scales = read_floats(job.parts["scale"])
    if scales.ndim == 1:
        scales = scales.reshape(-1, 1)
    groups = _groups(job, columns, scales.shape[1])
    if "zero" in job.parts:
        zeros = np.ascontiguousarray(read_stored(job.parts["zero"]).T)
        lowered = unpacked(zeros, bits, rows).T - middle
        numbers = numbers - lowered[:, groups]
    return numbers.astype(np.float32) * scales[:, groups]


def _groups(job: Restored, columns: int, count: int) -> NDArray[np.int64]:
    """The group of each column: stored where columns were reordered, else in order."""
    if "groups" in job.parts:
        stored = read_stored(job.parts["groups"]).astype(np.int64)
        if stored.min() >= 0:
            return stored
    if columns % count:
        raise ValueError(f"{count} groups do not divide {columns} columns")
    return np.arange(columns) // (columns // count)


def _fp4(packed: NDArray[Any]) -> Floats:
    """Two numbers a byte, the low half first."""
    halves = np.stack([packed & 0xF, packed >> 4], axis=-1)
    return FP4[halves].reshape(*packed.shape[:-1], -1)


def _nvfp4(job: Restored) -> Floats:
    """Sixteen numbers a scale of eight bits, one for the whole: a divisor, or ModelOpt's factor."""
    scales = read_floats(job.parts["scale"])
    overall = read_floats(job.parts["global"]).reshape(-1)[0]
    scales = scales * overall if job.numbers.get("multiplied") else scales / overall
    return _fp4(read_stored(job.parts["weight"])) * spread(scales, job.shape, None)


def _mxfp4(job: Restored) -> Floats:
    """Thirty-two numbers a power of two."""
    scales = E8M0[read_stored(job.parts["scale"])]
    return _fp4(read_stored(job.parts["weight"])) * spread(scales, job.shape, None)


def _mxfp4_experts(job: Restored) -> Floats:
    """OpenAI's: (experts, rows, groups, 16 bytes) to (experts, columns, rows)."""
    numbers = _fp4(read_stored(job.parts["weight"]))
    scaled = numbers * E8M0[read_stored(job.parts["scale"])][..., None]
    experts, rows = scaled.shape[:2]
    return np.ascontiguousarray(scaled.reshape(experts, rows, -1).swapaxes(1, 2))


def _gptq(job: Restored) -> Floats:
    """AutoGPTQ's: columns of the input in words, zero points one too low in its first format."""
    bits, (rows, columns) = int(job.numbers["bits"]), job.shape
    words = np.ascontiguousarray(read_stored(job.parts["weight"]).T)
    numbers = unpacked(words, bits, columns)
    scales = read_floats(job.parts["scale"])
    zeros = unpacked(read_stored(job.parts["zero"]), bits, rows) + int(job.numbers["zero_offset"])
    groups = _groups(job, columns, len(scales))
    lowered: Floats = (numbers - zeros.T[:, groups]).astype(np.float32)
    return np.asarray(lowered * scales.T[:, groups], np.float32)


def _awq(job: Restored) -> Floats:
    """AutoAWQ's GEMM: outputs in words, eight in an order of their own."""
    rows, columns = job.shape
    numbers = _awq_order(unpacked(read_stored(job.parts["weight"]), 4, rows))
    zeros = _awq_order(unpacked(read_stored(job.parts["zero"]), 4, rows))
    scales = read_floats(job.parts["scale"])
    groups = _groups(job, columns, len(scales))
    scaled: Floats = (numbers - zeros[groups]).astype(np.float32) * scales[groups]
    return np.transpose(scaled)


def _awq_order(numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    eights = numbers.reshape(len(numbers), -1, 8)
    ordered = np.empty_like(eights)
    ordered[:, :, _AWQ_ORDER] = eights
    return ordered.reshape(numbers.shape)


RULES: dict[str, Callable[[Restored], Floats]] = {
    "scaled": _scaled,
    "packed": _packed,
    "nvfp4": _nvfp4,
    "mxfp4": _mxfp4,
    "mxfp4-experts": _mxfp4_experts,
    "gptq": _gptq,
    "awq": _awq,
}
