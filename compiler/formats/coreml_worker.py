"""The Core ML stages, run inside the `coreml` toolchain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeward.compiler.mobile.front import Front, open_front
from edgeward.compiler.preprocessors import complete_settings
from edgeward.compiler.reference_model import load_model, load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import TaskSpec, task_spec

from .coreml_advice import advice_of
from .coreml_chunks import split
from .coreml_options import STATES_FROM_IOS
from .coreml_program import converted, describe, labels_of, merge, save, size_of
from .onnx_assets import copy_assets

MAIN = "main"


def convert(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `model.mlpackage` with a function for each combination of sizes, and `assets/`.

    Before iOS 18 a package has one function: each combination is a package of its own.
    """
    folder, spec = context.inputs["source"], task_spec(params["task"])
    context.progress(0.05, "loading the model")
    model = load_model(folder, spec.auto_class)
    copy_files(context, spec, params)
    programs: Mapping[str, Mapping[str, int]] = params["programs"]
    places: dict[str, Path] = {}
    fronts: dict[str, Front] = {}
    for number, (name, sizes) in enumerate(programs.items()):
        context.progress(0.1 + 0.8 * number / len(programs), f"converting {name}")
        front = fronts[name] = open_front(spec.name, folder, model, sizes)
        made = converted(
            front.module, front.inputs, front.outputs, ios=params["ios"], wide=params["wide"]
        )
        describe(made, params["says"], spec.name, labels_of(model.config))
        places[name] = context.out / f"{'model' if name == MAIN else name}.mlpackage"
        save(made, places[name])
    if len(places) > 1 and params["ios"] >= STATES_FROM_IOS:
        places = {name: _set_aside(context, path) for name, path in places.items()}
        merge(places, context.out / "model.mlpackage")
        places = dict.fromkeys(places, context.out / "model.mlpackage")
    chunks = split(context.out / "model.mlpackage", params["chunk_bytes"])
    return {
        **_signature(fronts[MAIN]),
        "packages": {name: path.name for name, path in places.items()},
        **finished(context.out, chunks),
    }


def copy_files(context: StageContext, spec: TaskSpec, params: Mapping[str, Any]) -> None:
    """Copy what travels with the model."""
    folder = context.inputs["source"]
    tokenizer = load_tokenizer(folder) if spec.reads_text else None
    copy_assets(folder, context.out / "assets", params["files"], tokenizer)
    if spec.modality in ("image", "image-text"):
        complete_settings(folder, context.out / "assets")


def finished(out: Path, chunks: int) -> dict[str, Any]:
    """Return what a stage says of the packages that it left."""
    advice = [one.words for package in sorted(out.glob("*.mlpackage")) for one in advice_of(package)]
    size = size_of(out)
    apart = f" in {chunks} chunks" if chunks > 1 else ""
    return {
        "chunks": chunks,
        "advice": list(dict.fromkeys(advice)),
        "size_bytes": size,
        "summary": f"{size / 2**20:.1f} MiB{apart}",
    }


def _set_aside(context: StageContext, package: Path) -> Path:
    place = context.scratch / "functions" / package.name
    place.parent.mkdir(parents=True, exist_ok=True)
    return package.rename(place)


def _signature(front: Front) -> dict[str, Any]:
    import torch

    with torch.no_grad():
        found = front.module(*front.inputs.values())
    given = dict(zip(front.outputs, found, strict=True))
    return {
        "inputs": [_port(front, name, one) for name, one in front.inputs.items()],
        "outputs": [_port(front, name, one) for name, one in given.items()],
        "padding": dict(front.padding),
    }


def _port(front: Front, name: str, tensor: Any) -> dict[str, Any]:
    named = front.axes.get(name, {})
    return {
        "name": name,
        "dtype": "float32" if tensor.is_floating_point() else "int32",
        "shape": [named.get(axis, size) for axis, size in enumerate(tensor.shape)],
    }
