"""The stage that says a graph as TensorRT takes it, run inside the `onnx` toolchain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeward.compiler.stage_context import StageContext

from .onnx_passes.graph import Graph
from .onnx_passes.integers import replace_integers
from .onnx_passes.tensorrt import operators_unknown, problems_with


def typed(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `model.onnx` and return what TensorRT would still refuse of it, in words."""
    del params
    graph = Graph(context.inputs["model"] / "model.onnx")
    replaced = 0 if operators_unknown(graph) else replace_integers(graph)
    graph.save(context.out / "model.onnx")
    found = [str(each) for each in problems_with(graph)]
    return {
        "problems": found,
        "summary": found[0] if found else f"TensorRT takes the graph, {replaced} nodes rewritten",
    }
