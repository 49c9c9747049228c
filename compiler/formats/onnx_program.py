"""An exported program on its way to a file: its signature, and where its weights go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeward.errors import StageError
from edgeward.runtimes.proof.bisect_words import SCOPES

from .onnx_passes.graph import INLINE_LIMIT_BYTES


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

    _forget_origins(program)
    weights = sum(v.const_value.nbytes for v in program.graph.initializers.values())
    external = f"{path.name}.data" if weights > INLINE_LIMIT_BYTES else None
    onnx_ir.save(program, str(path), external_data=external)


def _forget_origins(program: Any) -> None:
    """Drop the tracer's stack traces: megabytes, and the paths of the machine that made it.

    The modules that a node belongs to stay: a bisection names layers by them.
    """
    for value in _parts(program.graph):
        scopes = value.metadata_props.get(SCOPES)
        value.metadata_props.clear()
        if scopes is not None:
            value.metadata_props[SCOPES] = scopes


def check(path: Path) -> None:
    """Run onnx.checker, shapes too; StageError where the graph is not valid."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise StageError("The exported graph is not valid ONNX", why=first_line(error)) from error


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:500]


def _parts(graph: Any) -> Iterator[Any]:
    for node in graph.all_nodes():
        yield node
        yield from node.outputs
    yield from graph.inputs


def _spec(value: Any) -> dict[str, Any]:
    axes = [axis if isinstance(axis, int) else str(axis.value) for axis in value.shape]
    return {"name": value.name, "dtype": value.dtype.name.lower(), "shape": axes}
