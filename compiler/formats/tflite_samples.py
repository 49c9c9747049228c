"""What a TFLite file is calibrated on: the model's inputs in the shapes of each signature."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeward.compiler.given_stage import INPUT, kept_files
from edgeward.compiler.modalities.base import Given, Modality, open_modality
from edgeward.compiler.preprocessors import no_preprocessing
from edgeward.compiler.reference_model import load_model
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec
from edgeward.errors import UnsupportedError
from edgeward.runtimes.engines.bucketed import Plan, listed, plan_of

SAMPLES = "samples.safetensors"
_MOST_FILES = 64


def calibrate(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write the inputs of every signature: `SIGNATURE/NUMBER/INPUT` in one safetensors file."""
    from safetensors.numpy import save_file

    folder, spec = context.inputs["source"], task_spec(params["task"])
    named: Mapping[str, Mapping[str, int]] = params["signatures"]
    modality = open_modality(spec, folder, load_model(folder, spec.auto_class))
    axes = {axis for sizes in named.values() for axis in sizes}
    modality.fit({axis: [sizes[axis] for sizes in named.values()] for axis in axes})
    cases = _of_files(context, modality) or modality.calibration(params["texts"])
    plan = plan_of(listed(params["shapes"]))
    kinds = {one["name"]: one["dtype"] for one in params["shapes"]["inputs"]}
    tensors: dict[str, Any] = {}
    for signature, sizes in named.items():
        for number, case in enumerate(cases):
            fed = _fed(plan, case, sizes, kinds)
            tensors |= {f"{signature}/{number}/{name}": value for name, value in fed.items()}
    if not tensors:
        raise UnsupportedError("Nothing to calibrate with", why="no sample has the graphs' shapes")
    path = context.out / SAMPLES
    save_file(tensors, path)
    return {
        "calibration_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "summary": f"{len(cases)} samples",
    }


def read_samples(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the samples of each signature, in order."""
    from safetensors.numpy import load_file

    found: dict[str, dict[int, dict[str, Any]]] = {}
    for place, value in load_file(folder / SAMPLES).items():
        signature, number, name = place.split("/", 2)
        found.setdefault(signature, {}).setdefault(int(number), {})[name] = value
    return {name: [cases[n] for n in sorted(cases)] for name, cases in found.items()}


def _fed(
    plan: Plan, case: Given, sizes: Mapping[str, int], kinds: Mapping[str, str]
) -> dict[str, Any]:
    """Return a case in a graph's shape; nothing where it is larger."""
    import numpy as np

    arrays = {name: case.tensors[name].numpy() for name in kinds}
    for name, array in arrays.items():
        wanted = [
            sizes.get(axis, length) if isinstance(axis, str) else axis
            for axis, length in zip(plan.inputs[name], array.shape, strict=True)
        ]
        if any(length > most for length, most in zip(array.shape, wanted, strict=True)):
            return {}
    return {
        name: np.ascontiguousarray(plan.fed(name, array, sizes), kinds[name])
        for name, array in arrays.items()
    }


def _of_files(context: StageContext, modality: Modality) -> list[Given]:
    """Cases of the files that were given to calibrate with, none where none were."""
    files = kept_files(context.inputs.get(INPUT), _MOST_FILES)
    made = [modality.from_file(one.name, one.content) for one in files]
    found = [one for one in made if one is not None]
    if files and not found:
        raise no_preprocessing()
    return found
