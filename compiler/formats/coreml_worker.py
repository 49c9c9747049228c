"""The Core ML stages, run inside the `coreml` toolchain."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeward.compiler.given_stage import INPUT, kept_files
from edgeward.compiler.mobile.decoder import CachedFront
from edgeward.compiler.mobile.front import Front, open_front
from edgeward.compiler.mobile.proved import prove_front
from edgeward.compiler.preprocessors import complete_settings
from edgeward.compiler.reference_model import load_another, load_model, load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import TaskSpec, task_spec

from .coreml_activations import round_inputs
from .coreml_advice import advice_of
from .coreml_choice import CALIBRATED, Choice, choice_for
from .coreml_chunks import split
from .coreml_compress import changed
from .coreml_moments import Flow, Sample, flows_of, key_of, samples_of
from .coreml_options import STATES_FROM_IOS
from .coreml_program import converted, describe, labels_of, merge, save, size_of
from .coreml_weights import Weight, rewrite, weights_of
from .onnx_assets import copy_assets

MAIN, WRITES = "main", "text-generation"
_MOST_FILES = 64


def convert(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `model.mlpackage` with a function for each combination of sizes, and `assets/`.

    Before iOS 18 a package has one function: each combination is a package of its own.
    """
    folder, spec = context.inputs["source"], task_spec(params["task"])
    context.progress(0.05, "loading the model")
    model = load_another(folder, spec.auto_class)
    copy_files(context, spec, params)
    programs: Mapping[str, Mapping[str, int]] = params["programs"]
    places: dict[str, Path] = {}
    fronts: dict[str, Front] = {}
    for number, (name, sizes) in enumerate(programs.items()):
        context.progress(0.1 + 0.8 * number / len(programs), f"converting {name}")
        front = fronts[name] = open_front(spec.name, folder, model, sizes)
        prove_front(front, spec.name, folder, sizes)
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
    return {
        **_signature(fronts[MAIN]),
        "packages": {name: path.name for name, path in places.items()},
        **finished(context.out, chunks=1),
    }


def convert_decoder(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write a text generator as one stateful `model.mlpackage`, and `assets/`."""
    from .coreml_decoder import write_decoder

    copy_files(context, task_spec(params["task"]), params)
    return _written(context, write_decoder(context, params))


def convert_writer(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `encoder.mlpackage`, the decoder behind it as `model.mlpackage`, and `assets/`."""
    from .coreml_writer import write_writer

    copy_files(context, task_spec(params["task"]), params)
    return _written(context, write_writer(context, params))


def _written(context: StageContext, front: CachedFront) -> dict[str, Any]:
    import torch

    with torch.no_grad():
        found = front.module(*front.inputs.values())
    words = int((found if front.stateful else found[0]).shape[-1])
    ports = {"input_ids": [1, "tokens"], "position": [1]}
    return {
        "inputs": [{"name": name, "dtype": "int32", "shape": ports[name]} for name in ports],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": [1, "tokens", words]}],
        "padding": {},
        "context": front.context,
        **finished(context.out, chunks=1),
    }


def chunk(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Split a package that is too large for one."""
    for package in context.inputs["model"].glob("*.mlpackage"):
        shutil.copytree(package, context.out / package.name)
    return finished(context.out, split(context.out / "model.mlpackage", params["chunk_bytes"]))


def compress(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Round the weights of every package, and what flows into products where that is asked for."""
    folder, spec = context.inputs["source"], task_spec(params["task"])
    precision, ios = params["precision"], params["ios"]
    flows: dict[str, Flow] = {}
    samples: list[Sample] = []
    model = None
    if precision in CALIBRATED:
        context.progress(0.05, "calibrating")
        model = load_model(folder, spec.auto_class)
        samples = samples_of(spec, folder, model, params["texts"], _files(context))
        flows = flows_of(model, samples)
    layers: Sequence[Mapping[str, Any]] = ()
    counts = {"weights": 0, "inputs": 0}
    for package in sorted(context.inputs["model"].glob("*.mlpackage")):

        def change(program: Any) -> Choice:
            if precision == "w8a8":
                counts["inputs"] += round_inputs(program, flows)
            weights = list(weights_of(program))
            choice = choice_for(
                precision, ios, weights, flows, model, samples, writes=spec.name == WRITES
            )
            said = _Said(context, len(weights), choice)
            counts["weights"] += rewrite(program, said, ios)
            return choice

        done = changed(package, context.out / package.name, change, ios)
        layers = done.layers or layers
    chunks = split(context.out / "model.mlpackage", params["chunk_bytes"])
    told = finished(context.out, chunks)
    calibrated = {"calibration_sha256": _digest(samples)} if samples else {}
    inputs = f", {counts['inputs']} inputs" if counts["inputs"] else ""
    return {
        **told,
        **counts,
        **calibrated,
        "layers": list(layers),
        "summary": f"{counts['weights']} weights{inputs}, {told['summary']}",
    }


class _Said:
    """Rounds a weight and says how far it is; equal weights are rounded once."""

    def __init__(self, context: StageContext, count: int, choice: Choice) -> None:
        self._context, self._count, self._choice = context, count, choice
        self._done: dict[str, Any] = {}
        self._seen = 0

    def __call__(self, weight: Weight) -> Any:
        self._seen += 1
        self._context.progress(0.1 + 0.85 * self._seen / self._count, weight.name[:60])
        key = f"{weight.kind} {key_of(weight.matrix)}"
        if key not in self._done:
            self._done[key] = self._choice.round(weight)
        return self._done[key]


def _files(context: StageContext) -> Sequence[Any]:
    return kept_files(context.inputs.get(INPUT), _MOST_FILES)


def _digest(samples: Sequence[Sample]) -> str:
    running = hashlib.sha256()
    for sample in samples:
        for name in sorted(sample):
            running.update(name.encode() + sample[name].numpy().tobytes())
    return running.hexdigest()


def copy_files(context: StageContext, spec: TaskSpec, params: Mapping[str, Any]) -> None:
    """Copy what travels with the model."""
    folder = context.inputs["source"]
    tokenizer = load_tokenizer(folder) if spec.reads_text else None
    copy_assets(folder, context.out / "assets", params["files"], tokenizer)
    if spec.modality in ("image", "image-text"):
        complete_settings(folder, context.out / "assets")


def finished(out: Path, chunks: int) -> dict[str, Any]:
    """Return what a stage says of the packages that it left."""
    advice = [one for package in sorted(out.glob("*.mlpackage")) for one in advice_of(package)]
    said = [asdict(one) for one in advice]
    (out / "neural_engine.json").write_text(json.dumps(said, indent=1) + "\n", "utf-8")
    size = size_of(out)
    apart = f" in {chunks} chunks" if chunks > 1 else ""
    return {
        "chunks": chunks,
        "advice": list(dict.fromkeys(one.words for one in advice)),
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
