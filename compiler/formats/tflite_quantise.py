"""Rounding a TFLite file by ai-edge-quantizer, run inside the `litert` toolchain."""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.compiler.stage_context import StageContext
from edgeward.errors import StageError
from edgeward.runtimes.engines.litert_file import TFLiteFile, places_of_scales, read_tflite

from .tflite_rules import float_products, refuse_static_graph, unblocked_products
from .tflite_samples import read_samples

Steps = list[dict[str, Any]]
# They multiply integers and round what flows in as it comes.
_IN_BLOCKS = "int4-weights"
_DYNAMIC = ("int8-dynamic", _IN_BLOCKS)


def quantise(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Round weights, and activations where the precision asks for it.

    Raises UnsupportedError where static integers cannot be right, StageError where the quantiser
    refuses the graph or rounds nothing.
    """
    precision, rotation = params["precision"], params.get("rotation", "none")
    sources = sorted(context.inputs["model"].glob("*.tflite"))
    samples: dict[str, Any] | None = None
    if precision == "int8-static":
        for source in sources:
            refuse_static_graph(read_tflite(source))
        samples = read_samples(context.inputs["samples"])
    steps, counted = steps_of(precision, rotation), Counter[str]()
    for number, source in enumerate(sources):
        context.progress(number / len(sources), f"{precision}, {source.stem}")
        target = context.out / source.name
        kept = kept_steps(precision, read_tflite(source))
        round_file(source, target, [*steps, *kept], samples)
        counted.update(
            fallbacks=len(unblocked_products(read_tflite(source))) * (precision == _IN_BLOCKS),
            rounded=_rounded(read_tflite(target)),
            weights=_weights(read_tflite(source)),
            bytes_before=source.stat().st_size,
            bytes=target.stat().st_size,
        )
    if not counted["rounded"]:
        raise StageError(f"{precision} changed nothing", why="no weight was rounded")
    return {
        **counted,
        "summary": f"{precision}, {counted['rounded']} tables of weights of {counted['weights']}, "
        f"{counted['bytes_before'] / 2**20:.1f} -> {counted['bytes'] / 2**20:.1f} MiB"
        f"{_fallbacks(counted['fallbacks'])}",
    }


def _fallbacks(count: int) -> str:
    if not count:
        return ""
    return f"; {count} dense layers have rows that no block of 32 divides: 8 bits, a scale a row"


def steps_of(precision: str, rotation: str = "none") -> Steps:
    """Return the quantiser's recipe: what is done to which operators, later steps over earlier."""
    from ai_edge_quantizer import qtyping, recipe

    operators = qtyping.TFLOperationName
    if precision == "fp16":
        return [_halves()]
    if precision == "int8-weights":
        return list(recipe.weight_only_wi8_afp32())
    if precision == "int8-static":
        return list(recipe.static_wi8_ai8())
    if precision == "int8-dynamic":
        turned = rotation == "hadamard"
        return list(recipe.dynamic_wi8c_hr_afp32() if turned else recipe.dynamic_wi8c_afp32())
    # Kernels with blocks are those of dense layers; the rest and the embeddings keep 8 bits.
    return [
        *recipe.dynamic_wi8c_afp32(),
        *recipe.dynamic_wi4b32_afp32(operation_name=operators.FULLY_CONNECTED),
    ]


def kept_steps(precision: str, told: TFLiteFile) -> Steps:
    """Return what other operators of a file get, behind the steps for all.

    Products that only floats are right for stay in float; dense layers that do not take blocks
    have 8 bits and a scale a row.
    """
    if precision not in _DYNAMIC:
        return []
    kept: Steps = [
        {
            "regex": _by_output(name),
            "operation": "BATCH_MATMUL",
            "algorithm_key": "no_quantize",
            "op_config": {},
        }
        for name in float_products(told)
    ]
    return kept if precision != _IN_BLOCKS else [*kept, *_rows_of_eight(told)]


def _rows_of_eight(told: TFLiteFile) -> Steps:
    from ai_edge_quantizer import qtyping, recipe

    dense = qtyping.TFLOperationName.FULLY_CONNECTED
    return [
        step
        for name in unblocked_products(told)
        for step in recipe.dynamic_wi8c_afp32(regex=_by_output(name), operation_name=dense)
    ]


def _by_output(name: str) -> str:
    """An operator is known by its outputs' names, a semicolon behind each."""
    return f"^{re.escape(name)};$"


def round_file(
    source: Path, target: Path, steps: Steps, samples: Mapping[str, Any] | None = None
) -> None:
    """Apply a recipe; StageError in words where the quantiser refuses."""
    from ai_edge_quantizer.quantizer import Quantizer

    try:
        quantiser = Quantizer(str(source), steps)
        ranges = quantiser.calibrate(dict(samples), num_threads=1) if samples else None
        done = quantiser.quantize(ranges, enable_progress_report=False)
        done.export_model(str(target), overwrite=True)
        fill_scales(target)
    except (ValueError, RuntimeError, KeyError, NotImplementedError, TypeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise StageError("The quantiser does not take this graph", why=lines[0][:500]) from error


def fill_scales(path: Path) -> None:
    """Give blocks of nothing but zeros the smallest scale, as XNNPACK takes none of zero.

    The quantiser's least scale becomes zero in float16.
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        with memoryview(mapped) as data:
            places = list(places_of_scales(data))
        for start, size in places:
            scales = np.frombuffer(mapped[start : start + size], np.float16)
            filled = np.where(scales == 0, np.finfo(np.float16).smallest_normal, scales)
            mapped[start : start + size] = filled.astype(np.float16).tobytes()


def _halves() -> dict[str, Any]:
    """Weights in float16; what computes in float32 widens them when the file is loaded."""
    weights = {
        "num_bits": 16,
        "symmetric": True,
        "granularity": "TENSORWISE",
        "dtype": "FLOAT",
        "block_size": 0,
    }
    return {
        "regex": ".*",
        "operation": "*",
        "algorithm_key": "float_casting",
        "op_config": {
            "weight_tensor_config": weights,
            "compute_precision": "FLOAT",
            "explicit_dequantize": True,
            "skip_checks": False,
        },
    }


def _rounded(told: TFLiteFile) -> int:
    small = ("float16", "int8", "int4")
    tensors = [one for graph in told.graphs for one in graph.tensors]
    return sum(one.constant and one.dtype in small and len(one.shape) > 1 for one in tensors)


def _weights(told: TFLiteFile) -> int:
    tensors = [one for graph in told.graphs for one in graph.tensors]
    return sum(one.constant and one.dtype == "float32" and len(one.shape) > 1 for one in tensors)
