"""Writing safetensors files tensor by tensor: one is in memory at a time.

The format: eight bytes of length, a JSON header with each tensor's dtype, shape and place, then the
data, little-endian. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

SHARD_BYTES = 4 << 30
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "BOOL": 1, "U8": 1}
_ALIGNED = 8


@dataclass(frozen=True, slots=True)
class Planned:
    """A tensor to write: name, dtype (as the format has it), shape, and what makes its numbers.

    `make` returns an array of that shape whose bytes are the dtype's; BF16 as uint16.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], NDArray[Any]]

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * _SIZES[self.dtype]


def write_sharded(
    folder: Path,
    planned: Sequence[Planned],
    shard_bytes: int = SHARD_BYTES,
    done: Callable[[int, str], None] | None = None,
) -> list[str]:
    """Write `model.safetensors`, or shards with their index; return the files' names.

    `done` is told how many tensors are written and which was the last. ValueError for an array
    that is not of the size that was planned.
    """
    shards = _shards(planned, shard_bytes)
    names = _names(len(shards))
    count = 0
    for name, shard in zip(names, shards, strict=True):
        with (folder / name).open("wb") as file:
            _write_header(file, shard)
            for tensor in shard:
                _write_data(file, tensor)
                count += 1
                if done is not None:
                    done(count, tensor.name)
    if len(names) > 1:
        _write_index(folder, names, shards)
    return names


def _shards(planned: Iterable[Planned], most: int) -> list[list[Planned]]:
    shards: list[list[Planned]] = [[]]
    filled = 0
    for tensor in planned:
        if shards[-1] and filled + tensor.size > most:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.size
    return shards


def _names(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]


def _write_header(file: BinaryIO, shard: Sequence[Planned]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor in shard:
        place = [at, at + tensor.size]
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": place,
        }
        at = place[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    file.write(len(text).to_bytes(8, "little") + text)


def _write_data(file: BinaryIO, tensor: Planned) -> None:
    array = np.ascontiguousarray(tensor.make())
    if array.nbytes != tensor.size or array.size != math.prod(tensor.shape):
        raise ValueError(f"{tensor.name} is {array.shape}, not {tensor.shape}")
    file.write(array.data.cast("B") if array.size else b"")


def _write_index(folder: Path, names: Sequence[str], shards: Sequence[Sequence[Planned]]) -> None:
    mapping = {
        tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard
    }
    total = sum(tensor.size for shard in shards for tensor in shard)
    index = {"metadata": {"total_size": total}, "weight_map": mapping}
    text = json.dumps(index, indent=1)
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
