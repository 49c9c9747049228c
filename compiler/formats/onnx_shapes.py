"""The stage that fixes shapes: one graph for each of them, weights stored once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeward.compiler.stage_context import StageContext
from edgeward.errors import StageError, UnsupportedError
from edgeward.runtimes.tasks.tokens import TextTokenizer

from .onnx_passes.graph import MICROSOFT, Graph
from .onnx_passes.shapes import fix_axes
from .onnx_passes.shared import SharedWeights
from .onnx_program import first_line

_IDS, _MASK, _SEQUENCE = "input_ids", "attention_mask", "sequence"


def fix_shapes(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `STEM.onnx` for each of `buckets`, axis sizes by stem; "model" is the largest.

    Raises StageError where a graph is not valid ONNX, UnsupportedError where its shapes cannot be
    fixed or what is padded would show.
    """
    source, buckets = context.inputs["model"] / "model.onnx", params["buckets"]
    graph = Graph(source)
    _refuse_what_shows(graph, buckets)
    light = context.scratch / "light.onnx"
    weights = SharedWeights(graph, "model.onnx.data")
    apart = weights.must_lie_beside or (len(buckets) > 1 and weights.size > 0)
    graph.save(light)
    folded = 0
    for number, (stem, sizes) in enumerate(buckets.items()):
        context.progress(number / len(buckets), stem)
        one = Graph(light, beside=False)
        folded += fix_axes(one, sizes)["folded"]
        if not apart:
            weights.put_back(one)
        one.save(context.out / f"{stem}.onnx")
    if apart:
        weights.write(context.out)
    light.unlink()
    for stem in buckets:
        check_fixed(context.out / f"{stem}.onnx")
    return {
        "padding": _padding(graph, context.inputs["assets"]),
        "folded": folded,
        "summary": f"{', '.join(params['words'])}: {folded} nodes folded, "
        f"{_bytes(context.out) / 2**20:.1f} MiB",
    }


def check_fixed(path: Path) -> None:
    """Raise StageError where a graph has a symbolic dimension, or is not valid ONNX.

    Operators of ONNX Runtime's own have no rules there: a graph that has them is proved alone.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    for value in values:
        if not all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim):
            raise StageError(f"{path.name} still has a symbolic dimension", why=value.name)
    if any(each.domain == MICROSOFT for each in model.opset_import):
        return
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise StageError(f"{path.name} is not valid ONNX", why=first_line(error)) from error


def _refuse_what_shows(graph: Graph, buckets: Mapping[str, Mapping[str, int]]) -> None:
    """Texts are padded: a model without a mask would read the padding."""
    given = {info.name for info in graph.proto.input}
    padded = any(_SEQUENCE in sizes for sizes in buckets.values())
    if padded and _MASK not in given:
        raise UnsupportedError(
            "This model cannot have fixed lengths",
            why=f"it has no {_MASK}, so it would read what fills a text up",
        )


def _padding(graph: Graph, assets: Path) -> dict[str, int]:
    if all(info.name != _IDS for info in graph.proto.input):
        return {}
    return {_IDS: TextTokenizer(assets).padding_id}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
