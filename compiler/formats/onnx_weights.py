"""The stages that store, round and mix weights, run inside the `onnx` toolchain."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeward.compiler.stage_context import StageContext

from .onnx_samples import read_samples
from .onnx_worker import each_graph, sizes

_MODEL = "model.onnx"
# A mixed artifact takes at most this share of what the higher precision everywhere would add, and
# stops where the groups that stay at the lower one have this share of all harm.
SHARE, LEFT = 0.3, 0.1


def store_bfloat16(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Store weights as bfloat16, cast to float32 as they are loaded."""
    from .onnx_passes.stored import to_stored_bfloat16

    del params
    done = each_graph(context, to_stored_bfloat16)
    return {**done, "summary": f"bfloat16, {done['weights']} weights, {sizes(done)}"}


def round_weights(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Round weights, embeddings and head to 4 or 8 bits in blocks; activations stay float.

    With samples, 4-bit products are rounded so that what they give changes least.
    """
    from .onnx_passes.blocks import to_blocks

    bits, block_size = params["bits"], params["block_size"]
    given = {}
    if "samples" in context.inputs:
        model = context.inputs["model"] / _MODEL
        given["samples"] = read_samples(context.inputs["samples"], model)
    done = each_graph(context, to_blocks, bits=bits, block_size=block_size, **given)
    products = f"{done['products']} products, {done['tables']} tables"
    return {
        **done,
        "summary": f"{bits} bits in blocks of {block_size}: {products}, {sizes(done)}",
    }


def mix_dynamic(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Quantise as int8-dynamic does, the products that lose most kept in float."""
    from .onnx_passes.dynamic_mixed import to_dynamic_mixed

    del params
    source = context.inputs["model"] / _MODEL
    done = to_dynamic_mixed(
        source,
        context.out / _MODEL,
        read_samples(context.inputs["samples"], source),
        share=SHARE,
        left=LEFT,
        progress=lambda part: context.progress(0.1 + 0.8 * part, "measuring"),
    )
    kept = sum(layer["bits"] == 32 for layer in done["layers"])
    return {
        **done,
        "summary": f"int8, {kept} of {len(done['layers'])} groups in float: "
        f"{done['products']} products, {done['tables']} tables, {sizes(done)}",
    }


def mix_weights(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Round weights to 4 bits in blocks, those that hurt most to 8; `layers` says which and why."""
    from .onnx_passes.blocks import Plan, fits, write_blocks
    from .onnx_passes.compensate import products_of, round_on_samples, tables_of
    from .onnx_passes.graph import Graph, size_of
    from .onnx_passes.rounding import round_blocks
    from .onnx_passes.sensitivity import layers_of, measure, most_harmful

    source, target = context.inputs["model"] / _MODEL, context.out / _MODEL
    block_size = params["block_size"]
    samples = read_samples(context.inputs["samples"], source)
    graph = Graph(source)
    products = products_of(graph, fits)
    context.progress(0.1, "rounding")

    def told(done: float) -> None:
        context.progress(0.5 + 0.4 * done, "measuring")

    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        scratch = Path(folder)
        rounded = round_on_samples(graph, products, samples, scratch, bits=4, block_size=block_size)
        for key, table in tables_of(graph, fits, block_size).items():
            if key not in rounded:
                rounded[key] = round_blocks(table, 4, block_size, symmetric=True)
        groups = measure(graph, rounded, samples, scratch / "opened.onnx", told)
    raised = most_harmful(groups, share=SHARE, left=LEFT)
    layers = layers_of(graph, groups)
    names = [key[0] for group in raised for key in group.keys]
    plan = Plan(4, 4, block_size)
    done = write_blocks(graph, target, plan, rounded=rounded, raised=names)
    done["bytes_before"] = size_of(source)
    return {
        **done,
        "layers": [
            {
                "name": layer[:200],
                "weights": len(group.keys),
                "bits": 8 if group in raised else 4,
                "error": group.harm,
            }
            for layer, group in zip(layers, groups, strict=True)
        ],
        "summary": f"4 bits in blocks of {block_size}, {len(raised)} of {len(groups)} groups "
        f"in 8: {done['products']} products, {sizes(done)}",
    }
