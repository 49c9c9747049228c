"""A text generator as one ONNX graph that prefills and decodes, its weights stored once.

Runs inside the `onnx` toolchain. Inputs and outputs are named as optimum and transformers.js name
them: `input_ids`, `attention_mask`, `position_ids` where the model takes it, and
`past_key_values.N.key`/`.value`; `logits`, `present.N.key`/`.value`. A past of length 0 prefills.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeward.compiler.reference_model import load_model, load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec
from edgeward.errors import UnsupportedError
from edgeward.runtimes.tasks.cache_steps import SHARED_CACHE

from .onnx_assets import copy_assets
from .onnx_decoder_tuned import keep_logits, share_cache
from .onnx_exporter import exported
from .onnx_passes.causal import leave_causal_masks
from .onnx_passes.graph import Graph
from .onnx_program import check, first_line, save, signature
from .onnx_tied import tie_weights

TEXT_INPUTS = ("input_ids", "attention_mask", "position_ids")
_STATE = re.compile(r"^(?:input|output)\.past_key_values\.layers\.(\d+)\.(key|value)s$")
_TEXT_AXES = {"attention_mask": ("batch", "total")}
_SAMPLE_TEXT = "The museum closes at six, and the last tour leaves an hour before."
_SAMPLE_LENGTHS = (9, 7)
_NEW_TOKENS = 2


def export(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Export the model with its cache: `model.onnx` and its `assets/`."""
    folder = context.inputs["source"]
    context.progress(0.05, "loading the model")
    model = load_model(folder, task_spec(params["task"]).auto_class)
    tokenizer = load_tokenizer(folder)
    context.progress(0.15, "tracing")
    target = context.out / "model.onnx"
    described = export_decoder(
        model, tokenizer, target, opset=params["opset"], tuned=params["tuned"]
    )
    copy_assets(folder, context.out / "assets", params["files"], tokenizer)
    return described


def export_decoder(
    model: Any, tokenizer: Any, target: Path, *, opset: int, tuned: bool
) -> dict[str, Any]:
    """Write the causal language model to `target`; return its signature.

    The portable graph passes onnx.checker and takes any batch, sequence and past, padded on the
    left. The tuned one holds ONNX Runtime's fused operators for the processor, one sequence at a
    time, without padding. Sliding windows keep their whole past: the mask alone cuts it.

    Raises UnsupportedError where the model keeps other state than keys and values, StageError
    where the graph is not valid.
    """
    program = _trace(model, tokenizer, opset, tuned)
    _name_values(program.graph)
    _name_axes(program.graph)
    tie_weights(program)
    if tuned:
        share_cache(program)
        keep_logits(program)
    save(program, target)
    described = _described(program, model, opset, tuned)
    if tuned:
        graph = Graph(target)
        described["lean"] = asdict(leave_causal_masks(graph))
        graph.save(target)
    else:
        check(target)
    return described


def _trace(model: Any, tokenizer: Any, opset: int, tuned: bool) -> Any:
    from transformers.exporters import OnnxConfig

    config = OnnxConfig(opset_version=opset, dynamic=True, ort_fusions="cpu" if tuned else None)
    inputs = _traced_inputs(model.eval(), tokenizer, rows=1 if tuned else 2)
    return exported(model, inputs, config)


def _traced_inputs(model: Any, tokenizer: Any, rows: int) -> dict[str, Any]:
    """Two tokens after a past: an axis of one would be fixed at one.

    The past is a cache that grows in every layer: a sliding layer's own cache counts its past in
    a Python number, which tracing would freeze.
    """
    import torch
    from transformers import DynamicCache

    ids, mask = _sample(model, tokenizer, rows)
    past = ids.shape[1] - _NEW_TOKENS
    inputs = {"input_ids": ids, "attention_mask": mask}
    if "position_ids" in inspect.signature(model.forward).parameters:
        inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
    options = {"use_cache": True, "return_dict": True}
    before = {name: tensor[:, :past] for name, tensor in inputs.items()}
    try:
        with torch.no_grad():
            cache = model(**before, past_key_values=DynamicCache(), **options).past_key_values
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UnsupportedError(
            f"{type(model).__name__} does not read from a cache of keys and values",
            why=first_line(error),
        ) from error
    after = {n: t if n == "attention_mask" else t[:, past:] for n, t in inputs.items()}
    return {**after, "past_key_values": cache, **options}


def _sample(model: Any, tokenizer: Any, rows: int) -> tuple[Any, Any]:
    """Ids and mask of rows padded on the left: without padding the mask would be traced away."""
    import torch

    longest, vocabulary = max(_SAMPLE_LENGTHS), model.config.get_text_config().vocab_size
    known = tokenizer(_SAMPLE_TEXT, add_special_tokens=False)["input_ids"] * longest
    ids, mask = [], []
    for length in _SAMPLE_LENGTHS[-rows:]:
        padding = longest - length
        ids.append([0] * padding + [token % vocabulary for token in known[:length]])
        mask.append([0] * padding + [1] * length)
    return torch.tensor(ids), torch.tensor(mask)


def _name_values(graph: Any) -> None:
    """Give states the names of the ecosystem, and leave out what a generator does not read."""
    for values, prefix in ((graph.inputs, "past_key_values"), (graph.outputs, "present")):
        for value in values:
            found = _STATE.match(value.name)
            if found:
                value.name = f"{prefix}.{found[1]}.{found[2]}"
    present = [value for value in graph.outputs if value.name.startswith("present.")]
    past = [value for value in graph.inputs if value.name not in TEXT_INPUTS]
    strange = [value.name for value in past if not value.name.startswith("past_key_values.")]
    strange += [v.name for v in graph.outputs if "past_key_values" in v.name]
    logits = [value for value in graph.outputs if value.name == "logits"]
    if strange or len(past) != len(present) or not past or not logits:
        listed = ", ".join(strange) or "its logits or its cache are not among its outputs"
        raise UnsupportedError(
            "The model keeps other state than one key and one value a layer", why=listed[:500]
        )
    graph.outputs[:] = [*logits, *present]


def _name_axes(graph: Any) -> None:
    """Name the free axes; the tracer writes some fixed ones as a number in letters."""
    import onnx_ir

    for value in [*graph.inputs, *graph.outputs]:
        names = _axes_of(value.name)
        lengths = [axis if isinstance(axis, int) else axis.value for axis in value.shape]
        value.shape = onnx_ir.Shape(
            [
                int(length) if str(length).isdecimal() else names.get(position, length)
                for position, length in enumerate(lengths)
            ]
        )


def _axes_of(name: str) -> dict[int, str]:
    if name.startswith("past_key_values."):
        return {0: "batch", 2: "past"}
    if name.startswith("present."):
        return {0: "batch", 2: "total"}
    return dict(enumerate(_TEXT_AXES.get(name, ("batch", "sequence"))))


def _described(program: Any, model: Any, opset: int, tuned: bool) -> dict[str, Any]:
    from collections import Counter

    operators = Counter(node.op_type for node in program.graph)
    nodes = len(program.graph)
    kind = "fused for ONNX Runtime, " if tuned else ""
    return {
        **signature(program),
        "opset": program.opset_imports[""],
        "ir_version": program.ir_version,
        "nodes": nodes,
        "shared_cache": SHARED_CACHE in program.metadata_props,
        "fused_attentions": operators["GroupQueryAttention"],
        "layers": sum(v.name.endswith(".key") for v in program.graph.inputs),
        "summary": f"{type(model).__name__}, opset {opset}, {kind}{nodes} nodes",
    }
