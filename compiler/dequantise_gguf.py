"""The stage that writes a GGUF file as a Hugging Face folder; runs where llama.cpp's `gguf` is.

Stored floats keep their type, everything else becomes float32. One tensor is in memory at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import SourceError

from .dequantise_gguf_names import (
    PERMUTED_KV,
    PERMUTED_Q,
    ROW,
    SHIFTED,
    TRANSPOSED,
    Placement,
    placements,
)
from .dequantise_gguf_small import beside_files, write_small_files
from .dequantise_gguf_tokenizer import read_vocabulary, tokenizer_json
from .safetensors_stream import Planned, write_sharded
from .source_gguf import merged_header
from .source_gguf_header import GgufTensor
from .source_gguf_types import FLOATS, TYPES
from .stage_context import StageContext

_NUMBERS = {kind.name: number for number, kind in TYPES.items()}


def dequantise(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write the folder; SourceError where the file changed or a tensor cannot be read."""
    paths = [context.inputs[f"{number:04d}"] for number in range(params["files"])]
    header = merged_header(paths)
    beside = context.inputs.get("beside")
    config = write_small_files(header, context.out, beside)
    if beside is None or "tokenizer.json" not in beside_files(beside):
        vocabulary = read_vocabulary(header)
        text = json.dumps(tokenizer_json(header, vocabulary), ensure_ascii=False)
        (context.out / "tokenizer.json").write_text(text, encoding="utf-8")
    if beside is not None:
        _take_over(beside, context.out)
    placed = placements(header, config["model_type"], tied=config.get("tie_word_embeddings", False))
    heads = (config.get("num_attention_heads", 0), config.get("num_key_value_heads", 0))
    planned = [_planned(one, heads) for one in placed]

    def told(count: int, name: str) -> None:
        context.progress(count / len(planned), name)

    try:
        names = write_sharded(context.out, planned, done=told)
    except ValueError as error:
        raise SourceError(f"{header.path} cannot be dequantised", why=str(error)[:300]) from error
    return {"summary": f"{len(planned)} tensors in {len(names)} files", "tensors": len(planned)}


def _take_over(beside: Path, out: Path) -> None:
    for name in beside_files(beside):
        if not (out / name).exists():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(beside / name, out / name)


def _planned(placement: Placement, heads: tuple[int, int]) -> Planned:
    kind = placement.tensor.type.name
    keeps = kind in FLOATS and placement.change != SHIFTED
    dtype = kind if keeps else "F32"

    def make() -> NDArray[Any]:
        raw = _read(placement.tensor, placement.expert)
        numbers = _stored(raw, kind) if keeps else numbers_of(raw, placement.tensor)
        shape = placement.tensor.shape if placement.expert is None else placement.tensor.shape[1:]
        return _undone(numbers.reshape(shape), placement.change, heads)

    return Planned(placement.name, dtype, placement.shape, make)


def _read(tensor: GgufTensor, part: int | None) -> NDArray[np.uint8]:
    """Return a tensor's bytes, or those of one index of its first axis."""
    size = tensor.size if part is None else tensor.size // tensor.shape[0]
    offset = tensor.offset + (0 if part is None else part * size)
    raw = np.fromfile(tensor.path, np.uint8, size, offset=offset)
    if raw.size != size:
        raise ValueError(f"{tensor.name} ends early")
    return raw


def _stored(raw: NDArray[np.uint8], kind: str) -> NDArray[Any]:
    return raw.view({"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[kind])


def numbers_of(raw: NDArray[np.uint8], tensor: GgufTensor) -> NDArray[np.float32]:
    """Return float32 numbers by llama.cpp's own reader; blocks never cross rows."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    row = tensor.shape[-1] // tensor.type.block * tensor.type.bytes
    kind = GGMLQuantizationType(_NUMBERS[tensor.type.name])
    return np.asarray(dequantize(raw.reshape(-1, row), kind), np.float32)


def _unpermuted(numbers: NDArray[Any], heads: int) -> NDArray[Any]:
    """Undo the converter's `permute`: it put the halves that rotate together side by side."""
    rows = numbers.shape[0]
    if heads < 1 or rows % (2 * heads):
        raise ValueError(f"{rows} rows are not of {heads} heads")
    paired = numbers.reshape(heads, rows // heads // 2, 2, *numbers.shape[1:])
    restored: NDArray[Any] = paired.swapaxes(1, 2).reshape(numbers.shape)
    return restored


def _undone(numbers: NDArray[Any], change: str, heads: tuple[int, int]) -> NDArray[Any]:
    """Take back what the converter changed."""
    if change == PERMUTED_Q:
        return _unpermuted(numbers, heads[0])
    if change == PERMUTED_KV:
        return _unpermuted(numbers, heads[1])
    if change == SHIFTED:
        return np.asarray(numbers - np.float32(1))
    if change == TRANSPOSED:
        return np.transpose(numbers)
    return numbers[np.newaxis] if change == ROW and numbers.ndim == 1 else numbers
