"""The stage between export and precision: graphs said shorter, fused where the engine allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeward.compiler.stage_context import StageContext
from edgeward.errors import StageError

from .onnx_passes.tidy import tidy
from .onnx_program import first_line


def optimise(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Tidy every graph of the model; StageError where what comes out is no valid ONNX."""
    total: Counter[str] = Counter()
    for source in sorted(context.inputs["model"].glob("*.onnx")):
        target = context.out / source.name
        wanted = {name: params[name] for name in ("rows", "sums", "fuse")}
        done = tidy(source, target, **wanted)
        if not done["fused_attentions"]:
            _check(target)
        total.update(done)
    fused = f", {total['fused_attentions']} fused" if total["fused_attentions"] else ""
    return {
        **total,
        "summary": f"{total['nodes_before']} -> {total['nodes']} nodes, {total['layers']} layers "
        f"on rows, {total['attentions']} attentions{fused}",
    }


def _check(path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise StageError("The optimised graph is not valid ONNX", why=first_line(error)) from error
