"""An exported program on its way to a file: its signature, and where its weights go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

INLINE_LIMIT_BYTES = 1_800_000_000


def signature(program: Any) -> dict[str, Any]:
    """Return inputs and outputs as the manifest lists them."""
    graph = program.graph
    return {
        "inputs": [_spec(v) for v in graph.inputs],
        "outputs": [_spec(v) for v in graph.outputs],
    }


def save(program: Any, path: Path) -> None:
    """Write it; weights that protobuf cannot hold lie beside it in `NAME.data`."""
    import onnx_ir

    weights = sum(v.const_value.nbytes for v in program.graph.initializers.values())
    external = f"{path.name}.data" if weights > INLINE_LIMIT_BYTES else None
    onnx_ir.save(program, str(path), external_data=external)


def _spec(value: Any) -> dict[str, Any]:
    axes = [axis if isinstance(axis, int) else str(axis.value) for axis in value.shape]
    return {"name": value.name, "dtype": value.dtype.name.lower(), "shape": axes}
