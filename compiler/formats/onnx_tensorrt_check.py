"""The stage that holds a graph against what TensorRT takes, run inside the `onnx` toolchain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeward.compiler.stage_context import StageContext

from .onnx_passes.graph import Graph
from .onnx_passes.tensorrt import problems_with


def check(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what TensorRT would refuse of the model, in words."""
    del params
    found = [str(each) for each in problems_with(Graph(context.inputs["model"] / "model.onnx"))]
    return {"problems": found, "summary": found[0] if found else "TensorRT takes the graph"}
