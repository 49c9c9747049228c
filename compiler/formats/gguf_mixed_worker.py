"""The stage that rates every type for every tensor; runs inside the `llama` toolchain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.compiler.stage_context import StageContext
from edgeward.runtimes.bundle.gguf_header import GgufHeader, GgufTensor, read_header

from .ggml import Ggml
from .gguf_imatrix_file import read_importance

Floats = NDArray[np.float32]
_FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def rate(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return for each tensor that has costs its types, each with bytes and nats.

    The error of some rows, evenly taken, stands for all of them. `rest` are the bytes of the file
    beside these tensors.
    """
    from safetensors.numpy import load_file

    path = context.inputs["model"]
    costs = load_file(context.inputs["costs"])
    given = context.inputs.get("importance")
    importance = read_importance(given).means if given is not None else {}
    header, ggml = read_header(path), Ggml()
    rated = [tensor for tensor in header.tensors if tensor.name in costs]
    offers: dict[str, list[list[Any]]] = {}
    for number, tensor in enumerate(rated):
        context.progress(number / len(rated), tensor.name)
        rows = list(rows_of(header, tensor, params["rows"]))
        column_costs = _per_expert(costs[tensor.name], len(rows))
        means = _per_expert(importance.get(tensor.name), len(rows))
        offers[tensor.name] = [
            [kind, ggml.row_bytes(kind, tensor.shape[-1]) * _rows(tensor), nats]
            for kind, nats in _rated(ggml, tensor, rows, column_costs, means, params["types"])
        ]
    held = sum(tensor.size for tensor in rated)
    return {
        "offers": offers,
        "weights": sum(_rows(tensor) * tensor.shape[-1] for tensor in rated),
        "rest": path.stat().st_size - held,
        "summary": f"{len(rated)} tensors, {len(params['types'])} types",
    }


def rows_of(header: GgufHeader, tensor: GgufTensor, most: int) -> Iterator[Floats]:
    """Give some rows of each expert's matrix, evenly taken, as float32."""
    experts = tensor.shape[0] if len(tensor.shape) > 2 else 1
    rows, columns = tensor.shape[-2], tensor.shape[-1]
    data = np.memmap(
        header.path,
        _FLOATS[tensor.type_name],
        "r",
        header.data_start + tensor.offset,
        (experts, rows, columns),
    )
    taken = np.unique(np.linspace(0, rows - 1, min(rows, max(most // experts, 8))).astype(int))
    for expert in range(experts):
        yield _float(np.asarray(data[expert, taken]))


def _float(rows: NDArray[Any]) -> Floats:
    if rows.dtype == np.uint16:
        return np.ascontiguousarray((rows.astype(np.uint32) << 16).view(np.float32))
    return np.ascontiguousarray(rows, np.float32)


def _rated(
    ggml: Ggml,
    tensor: GgufTensor,
    experts: Sequence[Floats],
    costs: Sequence[Floats | None],
    importance: Sequence[Floats | None],
    kinds: Sequence[str],
) -> Iterator[tuple[str, float]]:
    """Give each type that the tensor can have, and half its weighted squared error over all rows.

    An expert that saw no token costs nothing.
    """
    for kind in kinds:
        if not ggml.fits(kind, tensor.shape[-1]):
            continue
        if ggml.needs_importance(kind) and any(means is None for means in importance):
            continue
        nats = 0.0
        for rows, cost, means in zip(experts, costs, importance, strict=True):
            if cost is None:
                continue
            error = np.square(ggml.rounded(rows, kind, means) - rows, dtype=np.float64).mean(0)
            nats += 0.5 * float(error @ cost) * tensor.shape[-2]
        yield kind, nats


def _per_expert(figures: Floats | None, experts: int) -> list[Floats | None]:
    if figures is None:
        return [None] * experts
    rows = figures.reshape(-1, figures.size // experts)
    return list(rows) if len(rows) == experts else [None] * experts


def _rows(tensor: GgufTensor) -> int:
    count = 1
    for size in tensor.shape[:-1]:
        count *= size
    return count
