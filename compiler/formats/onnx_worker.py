"""The ONNX stages, run inside the `onnx` toolchain."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeward.compiler.given_stage import INPUT, kept_files
from edgeward.compiler.modalities.base import Axes, Given, Modality, open_modality
from edgeward.compiler.preprocessors import complete_settings, no_preprocessing
from edgeward.compiler.reference_model import load_model, load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec
from edgeward.errors import StageError, UnsupportedError

from .onnx_assets import copy_assets
from .onnx_exporter import exported
from .onnx_passes.graph import Graph
from .onnx_program import save, signature
from .onnx_samples import SAMPLES, read_samples, token_windows

_MOST_FILES = 64


def export(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Export the model with dynamic axes: `model.onnx` and its `assets/`."""
    import onnx_ir
    from torch.export import Dim
    from transformers.exporters import OnnxConfig

    folder = context.inputs["source"]
    context.progress(0.05, "loading the model")
    spec = task_spec(params["task"])
    model = load_model(folder, spec.auto_class)
    modality = open_modality(spec, folder, model)
    axes = modality.axes()
    shapes = {name: dict.fromkeys(named, Dim.DYNAMIC) for name, named in axes.items()}
    context.progress(0.15, "tracing")
    config = OnnxConfig(opset_version=params["opset"], dynamic_shapes=shapes)
    program = exported(model, modality.traced(), config)
    _keep_outputs(program, spec.outputs)
    _name_axes(program, axes)
    context.progress(0.9, "writing")
    save(program, context.out / "model.onnx")
    tokenizer = load_tokenizer(folder) if spec.reads_text else None
    copy_assets(folder, context.out / "assets", params["files"], tokenizer)
    if spec.modality in ("image", "image-text"):
        complete_settings(folder, context.out / "assets")
    nodes = len(program.graph)
    return {
        **signature(program),
        "opset": program.opset_imports[""],
        "ir_version": program.ir_version,
        "nodes": nodes,
        "summary": f"{type(model).__name__}, opset {params['opset']}, {nodes} nodes",
        "onnx_ir": onnx_ir.__version__,
    }


def quantise(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Quantise weights and embeddings to int8 per channel, activations as the model runs."""
    from .onnx_passes.dynamic import to_dynamic

    del params
    done = each_graph(context, to_dynamic)
    return {
        **done,
        "summary": f"int8, {done['products']} products, {done['tables']} tables, {sizes(done)}",
    }


def halve(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Store and compute in float16, with float32 at the border and where float16 cannot hold."""
    from .onnx_passes.half import to_float16

    del params
    done = each_graph(context, to_float16)
    wide = done["wide_nodes"]
    return {**done, "summary": f"float16, {wide} nodes kept in float32, {sizes(done)}"}


def calibrate(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write what the model is calibrated on as its inputs: `samples.safetensors`."""
    from safetensors.numpy import save_file

    folder, spec = context.inputs["source"], task_spec(params["task"])
    given: list[dict[str, Any]]
    if spec.generates:
        given = token_windows(folder, load_tokenizer(folder), params["texts"])
    else:
        modality = open_modality(spec, folder, load_model(folder, spec.auto_class))
        cases = _of_files(context, modality) or modality.calibration(params["texts"])
        given = [{name: tensor.numpy() for name, tensor in one.tensors.items()} for one in cases]
    tensors = {
        f"{number}.{name}": tensor
        for number, sample in enumerate(given)
        for name, tensor in sample.items()
    }
    path = context.out / SAMPLES
    save_file(tensors, path)
    return {
        "calibration_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "summary": f"{len(given)} samples",
    }


def _of_files(context: StageContext, modality: Modality) -> list[Given]:
    """Cases of the files that were given to calibrate with, none where none were."""
    files = kept_files(context.inputs.get(INPUT), _MOST_FILES)
    made = [modality.from_file(one.name, one.content) for one in files]
    found = [one for one in made if one is not None]
    if files and not found:
        raise no_preprocessing()
    return found


def quantise_static(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Quantise weights and activations to int8, ranges and smoothing from the samples."""
    from .onnx_passes.static import to_static

    model = context.inputs["model"] / "model.onnx"
    samples = read_samples(context.inputs["samples"], model)()
    done = to_static(model, context.out / "model.onnx", samples, **params)
    return {
        **{name: value for name, value in done.items() if name != "alphas"},
        "summary": f"int8, {done['products']} products, {done['smoothed']} smoothed, {sizes(done)}",
    }


def each_graph(
    context: StageContext, change: Callable[..., dict[str, Any]], **settings: Any
) -> dict[str, Any]:
    """Change every graph of the model; what is counted of them is added up.

    One that has nothing to change stays as it is beside one that has.
    """
    total: Counter[str] = Counter()
    refused: list[UnsupportedError] = []
    sources = sorted(context.inputs["model"].glob("*.onnx"))
    for source in sources:
        done = _changed(source, context.out / source.name, change, settings)
        if isinstance(done, UnsupportedError):
            refused.append(done)
        else:
            total.update(done)
    if len(refused) == len(sources):
        raise refused[0]
    return dict(total)


def _changed(
    source: Path, target: Path, change: Callable[..., dict[str, Any]], settings: Mapping[str, Any]
) -> dict[str, Any] | UnsupportedError:
    try:
        return change(source, target, **settings)
    except UnsupportedError as error:
        Graph(source).save(target)
        return error


def sizes(done: Mapping[str, int]) -> str:
    """Say how large it was and is."""
    return f"{done['bytes_before'] / 2**20:.1f} -> {done['bytes'] / 2**20:.1f} MiB"


def _keep_outputs(program: Any, wanted: Sequence[str]) -> None:
    """What the task does not read goes, and the weights behind it: the pooler of vectors."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    graph = program.graph
    given = {value.name: value for value in graph.outputs}
    lacking = [name for name in wanted if name not in given]
    if lacking:
        raise StageError(
            f"The model gives no {lacking[0]}", why=f"its outputs are {', '.join(given)}"
        )
    graph.outputs[:] = [given[name] for name in wanted]
    RemoveUnusedNodesPass()(program)


def _name_axes(program: Any, axes: Axes) -> None:
    """Give the symbolic dimensions the names that people expect to read."""
    import onnx_ir

    named: dict[str, str] = {}
    for value in program.graph.inputs:
        for position, name in axes.get(value.name, {}).items():
            axis = value.shape[position]
            if isinstance(axis, onnx_ir.SymbolicDim) and axis.value is not None:
                named.setdefault(axis.value, name)
    for value in [*program.graph.inputs, *program.graph.outputs]:
        value.shape = onnx_ir.Shape(
            [
                named.get(axis.value, axis.value) if isinstance(axis, onnx_ir.SymbolicDim) else axis
                for axis in value.shape
            ]
        )
