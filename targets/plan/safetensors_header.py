"""The tensors that a safetensors file lists, from its header alone.

Format: https://huggingface.co/docs/safetensors: eight bytes of length, JSON, data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from edgeward.errors import SourceError

from .blob import PIECE, Blob
from .facts import Tensor

MAX_HEADER = 100_000_000
_LENGTH_BYTES = 8
_BITS: Mapping[str, float] = {
    **dict.fromkeys(("F64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 8),
    "F4": 4,
}
_NO_PARAMETER = re.compile(
    r"(position_ids|inv_freq|masked_bias|num_batches_tracked|running_mean|running_var"
    r"|weight_scale|weight_scale_inv|input_scale|weight_shape|zero_point|qzeros|g_idx|scales"
    r"|absmax|quant_map|_scales|weight_global_scale)$|\.attn\.bias$"
)
_PACKED = re.compile(r"(qweight|weight_packed|_blocks)$")
_EXPERT = re.compile(r"\bexperts\.\d{1,6}\.")


def read_tensors(blob: Blob) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return (name, dtype, shape) of each tensor; SourceError where the header does not hold."""
    first = blob.read(0, PIECE)
    size = int.from_bytes(first[:_LENGTH_BYTES], "little")
    if len(first) < _LENGTH_BYTES or not 2 <= size <= MAX_HEADER:
        raise SourceError(f"{blob.name} is not a safetensors file", why=f"a header of {size} bytes")
    text = first[_LENGTH_BYTES : _LENGTH_BYTES + size]
    if len(text) < size:
        text += blob.read(len(first), size - len(text))
    if len(text) < size:
        raise SourceError(f"{blob.name} is cut off in its header")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise SourceError(f"{blob.name} has a header that is not JSON") from None
    if not isinstance(document, dict):
        raise SourceError(f"{blob.name} has a header that is no table")
    rows = document.items()
    return [_row(blob.name, name, row) for name, row in rows if name != "__metadata__"]


def _row(where: str, name: str, row: object) -> tuple[str, str, tuple[int, ...]]:
    shape = row.get("shape") if isinstance(row, dict) else None
    dtype = row.get("dtype") if isinstance(row, dict) else None
    sizes = shape if isinstance(shape, list) else [None]
    right = all(type(size) is int and 0 <= size < 2**40 for size in sizes)
    if not right or len(sizes) > 8 or dtype not in _BITS:
        raise SourceError(f"{where} lists the tensor {name[:100]!a} without a shape and a dtype")
    return name, str(dtype), tuple(sizes)


def parameters(
    listed: Iterable[tuple[str, str, tuple[int, ...]]], *, tied: bool, model_type: str, bits: int
) -> list[Tensor]:
    """Return the parameters among listed tensors: no buffers, no scales, nothing twice.

    `bits` is what a weight of a packed tensor takes (GPTQ, AWQ, MXFP4), `tied` says that a head in
    the file is the embedding again. Experts alike are one row with copies.
    """
    found: dict[tuple[str, tuple[int, ...]], Tensor] = {}
    rows = [row for row in listed if not _NO_PARAMETER.search(row[0])]
    shapes = {shape for name, _, shape in rows if _is_table(name)}
    for name, dtype, shape in rows:
        if tied and name.endswith(("lm_head.weight", "proj_out.weight")) and shape in shapes:
            continue
        tensor = _parameter(name, dtype, _as_linear(name, shape, model_type), bits)
        key = (_EXPERT.sub("experts.0.", tensor.name), tensor.shape)
        known = found.get(key)
        copies = known.copies + 1 if known else 1
        found[key] = Tensor(key[0], tensor.shape, copies, tensor.bits)
    return list(found.values())


def _is_table(name: str) -> bool:
    return name.endswith(("embed_tokens.weight", "wte.weight", "shared.weight", "embed_in.weight"))


def _parameter(name: str, dtype: str, shape: tuple[int, ...], bits: int) -> Tensor:
    stored = _BITS[dtype]
    if not _PACKED.search(name) or dtype not in ("I32", "U8"):
        return Tensor(name, shape, bits=stored)
    inside = int(stored) // bits
    unpacked = (*shape[:-1], shape[-1] * inside) if shape else shape
    return Tensor(_PACKED.sub("weight", name), unpacked, bits=bits)


def _as_linear(name: str, shape: tuple[int, ...], model_type: str) -> tuple[int, ...]:
    """GPT-2's products are stored the other way round: columns first."""
    is_turned = model_type == "gpt2" and len(shape) == 2 and ".c_" in name
    return shape[::-1] if is_turned else shape
