"""Core ML: ML programs in `.mlpackage` folders for iPhones and Macs.

coremltools writes them on any system; Core ML itself runs on Apple's alone, so here the saved
package is run by the evaluator (`compiler/mil/`), and `verify_on_device.py` completes the proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeward.compiler.architectures import DECODERS, MODEL_TYPES, Coverage
from edgeward.compiler.given_stage import INPUT, given_stage
from edgeward.compiler.mobile.coverage import coverage_of
from edgeward.compiler.recipe import RECIPES
from edgeward.compiler.shapes import stem_of
from edgeward.compiler.stages import JSON, StageInput, StageResult, StageSpec
from edgeward.compiler.tasks import task_spec
from edgeward.compiler.texts import paired
from edgeward.compiler.tolerance import Tolerances
from edgeward.errors import UnsupportedError

from .base import Artifact, Job, Stages
from .coreml_options import (
    BLOCK,
    ENGINE,
    OPTIONS,
    STATES_FROM_IOS,
    cache_length,
    chunk_bytes,
    ios_of,
)
from .coreml_tolerances import TOLERANCES

__all__ = ["ENGINE", "OPTIONS"]

ENTRY = "Manifest.json"
CASES, ADVICE = "on_device.npz", "neural_engine.json"
_PACKAGE = "model.mlpackage"
_ENGINE_MODULE = "edgeward.compiler.mil_engine"
_WORKER = "edgeward.compiler.formats.coreml_worker"
_ON_DEVICE = ("verify_on_device.py", "Verify.swift")
_AS_IT_IS = ("fp32", "fp16")
_SPEECH = "automatic-speech-recognition"
# The stage that writes a model token by token, and the graphs beside its decoder.
_WRITES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "text-generation": ("convert_decoder", ()),
    _SPEECH: ("convert_writer", ("encoder",)),
}
_PENDING = (
    "Core ML's own predict on the device: run verify_on_device.py there",
    "where each operator runs (MLComputePlan): verify_on_device.py writes it down",
)


def precisions() -> Sequence[str]:
    """The precisions that it can make."""
    return [precision for name, precision in RECIPES if name == "coreml"]


def coverage() -> Coverage:
    """Which models it takes; the front end says of a few why they have no form for it."""
    own = {"text-generation": DECODERS, _SPEECH: MODEL_TYPES[_SPEECH]}
    return Coverage({**coverage_of("coreml").model_types, **own})


def tolerances() -> Mapping[tuple[str, str], Tolerances]:
    """How close its artifacts stay, by precision and by what a task's outputs are."""
    return TOLERANCES


def check(job: Job) -> None:
    """Refuse what the target's system is too old for, and options that are none."""
    ios = ios_of(job)
    chunk_bytes(job)
    if not task_spec(job.source.task).generates:
        return
    if ios < STATES_FROM_IOS and job.source.task == "text-generation":
        raise UnsupportedError(
            f"A text generator needs iOS {STATES_FROM_IOS}",
            why=f"its cache is a state, which Core ML of iOS {ios} does not have",
            next=f"edgeward compile … --minimum-ios {STATES_FROM_IOS}",
        )
    cache_length(job)


def toolchain() -> str:
    """The toolchain that its stages, the reference and the proof run in."""
    return "coreml"


def build(job: Job, stages: Stages) -> Artifact:
    """Convert, then round where the precision asks for it."""
    done = {"convert": stages.run(_convert(job))}
    if job.recipe.precision not in _AS_IT_IS:
        done["compress"] = stages.run(_compress(job, done["convert"], stages))
    elif int(str(done["convert"].data["size_bytes"])) > chunk_bytes(job):
        done["chunk"] = stages.run(_chunk(job, done["convert"]))
    model = done[list(done)[-1]]
    chunks = int(str(model.data.get("chunks", 1)))
    roles = [f"chunk{number}" for number in range(2, chunks + 1)]
    roles += _WRITES.get(job.source.task, ("", ()))[1]
    fixed = _fixed(job, done["convert"]) if job.shapes else {}
    done["graph"] = graph = stages.run(_graph(job, done["convert"], model, roles, fixed))
    return Artifact(
        model=model.as_input(_PACKAGE),
        name=f"{_PACKAGE}/{ENTRY}",
        engine_toolchain=toolchain(),
        results=tuple(done.values()),
        stages=tuple(done),
        parts={role: f"{role}.mlpackage/{ENTRY}" for role in roles},
        options={"chunks": chunks, "size_bytes": int(str(model.data["size_bytes"]))},
        granularity=_granularity(job),
        files={
            **{name: Path(__file__).with_name("coreml_device") / name for name in _ON_DEVICE},
            CASES: graph.path / CASES,
            ADVICE: model.path / ADVICE,
        },
        metrics=graph.metrics,
        engine_module=_ENGINE_MODULE,
        pending=_PENDING,
        verified="reference-evaluator",
        **fixed,
    )


def _granularity(job: Job) -> str:
    """A text generator's 8 bits have a scale for each block, see `coreml_choice.py`."""
    blocks = job.recipe.precision == "int8-weights" and job.source.task == "text-generation"
    return f"block-{BLOCK}" if blocks else ""


def engine_options(job: Job) -> dict[str, str | int | float | bool]:
    """What the package was made for."""
    shapes = {"shapes": str(job.shapes)} if job.shapes else {}
    return {"minimum_ios": ios_of(job), "compute_units": "cpuAndNeuralEngine", **shapes}


def _fixed(job: Job, convert: StageResult) -> dict[str, Any]:
    told = convert.data
    packages: Any = told["packages"]
    shapes = {
        "inputs": told["inputs"],
        "outputs": told["outputs"],
        "padding": told["padding"],
        "buckets": [
            {"path": packages[stem], "sizes": sizes} for stem, sizes in _stems(job).items()
        ],
    }
    return {
        "shapes": shapes,
        "buckets": {str(path): f"{path}/{ENTRY}" for path in packages.values()},
    }


def _stems(job: Job) -> dict[str, JSON]:
    """The sizes of each program by its name, the largest first; its name is always the same."""
    largest, *others = job.shapes.buckets()
    return {"main": {**largest}, **{stem_of(sizes): {**sizes} for sizes in others}}


def _convert(job: Job) -> StageSpec:
    source, generates = job.source, task_spec(job.source.task).generates
    own: dict[str, JSON] = {"cache": cache_length(job)} if generates else {"programs": _stems(job)}
    call, _ = _WRITES.get(source.task, ("convert", ()))
    return StageSpec(
        name="convert",
        call=f"{_WORKER}:{call}",
        version=4,
        inputs={"source": StageInput(source.folder, source.digest)},
        params={
            "task": source.task,
            "files": list(source.files),
            "ios": ios_of(job),
            "wide": job.recipe.precision == "fp32",
            "says": {
                "source": source.id,
                "revision": source.revision,
                "license": source.license,
                "architecture": source.architecture,
            },
            **own,
        },
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes * 4 + (2 << 30),
    )


def _chunk(job: Job, convert: StageResult) -> StageSpec:
    return StageSpec(
        name="chunk",
        call=f"{_WORKER}:chunk",
        version=3,
        inputs={"model": convert.as_input()},
        params={"chunk_bytes": chunk_bytes(job)},
        toolchain=toolchain(),
        estimate_bytes=job.source.weight_bytes * 2 + (1 << 30),
    )


def _compress(job: Job, convert: StageResult, stages: Stages) -> StageSpec:
    source = job.source
    kept = given_stage(job.given, toolchain())
    given = {} if kept is None else {INPUT: stages.run(kept).as_input()}
    pairs = paired(job.given.texts) if job.given else ()
    return StageSpec(
        name="compress",
        call=f"{_WORKER}:compress",
        version=6,
        inputs={
            "source": StageInput(source.folder, source.digest),
            "model": convert.as_input(),
            **given,
        },
        params={
            "task": source.task,
            "precision": job.recipe.precision,
            "texts": list(pairs or job.calibration),
            "ios": ios_of(job),
            "chunk_bytes": chunk_bytes(job),
        },
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes * 4 + (2 << 30),
    )


def _graph(
    job: Job,
    convert: StageResult,
    model: StageResult,
    roles: Sequence[str],
    fixed: Mapping[str, Any],
) -> StageSpec:
    source = job.source
    return StageSpec(
        name="graph",
        call="edgeward.compiler.formats.coreml_graph:check_graph",
        version=2,
        inputs={
            "source": StageInput(source.folder, source.digest),
            "float": convert.as_input(),
            "model": model.as_input(),
        },
        params={
            "task": source.task,
            "texts": list(job.calibration),
            "parts": list(roles),
            "shapes": fixed.get("shapes", {}),
        },
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes * 4 + (2 << 30),
    )
