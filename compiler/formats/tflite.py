"""TFLite: one file, a signature for each shape, converted by litert-torch for LiteRT.

Phones, Coral boards and microcontrollers load it. Transformers are traced behind the mobile front
end (`compiler/mobile/`), so that older runtimes run them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeward.compiler.architectures import MODEL_TYPES, Coverage
from edgeward.compiler.given_stage import INPUT, given_stage
from edgeward.compiler.recipe import RECIPES
from edgeward.compiler.shapes import stem_of
from edgeward.compiler.stages import JSON, StageInput, StageResult, StageSpec
from edgeward.compiler.texts import paired
from edgeward.compiler.tolerance import Tolerances
from edgeward.errors import UnsupportedError

from .base import Artifact, Job, Stages
from .tflite_options import (
    MEDIAPIPE_FILE,
    OPTIONS,
    contained,
    for_mediapipe,
    rotation_of,
    slots_of,
)
from .tflite_rules import refuse_newer, refuse_static_attention
from .tflite_tolerances import TOLERANCES

__all__ = ["OPTIONS"]
ENGINE = "litert"
# The engines that load it, and the environment and version that each is proved in.
ENGINE_TOOLCHAINS: Mapping[str, tuple[str, str]] = {
    "litert": ("litert-runtime", "2.3.0"),
    "tflite-runtime": ("tflite-runtime", "2.14.0"),
    "edgetpu": ("tflite-runtime", "2.14.0"),
    "tflite-micro": ("litert-runtime", "2.3.0"),
}
# These engines are no Python package: the file is run uncompiled, on the host's kernels.
_NO_PACKAGE = ("edgetpu", "tflite-micro")
STATIC = "int8-static"
EXACT = "fp32"
FILE, CONTAINER = "model.tflite", "model.litertlm"
SIGNATURE = "serving_default"
_WORKER = "edgeward.compiler.formats.tflite_worker"
_SLOTTED = {
    "text-generation": "edgeward.compiler.formats.tflite_decoder",
    "automatic-speech-recognition": "edgeward.compiler.formats.tflite_writer",
}
_ENCODER = {"encoder": "encoder.tflite"}
# Their proof runs several rows at once, which a cache of slots does not hold.
_NOT_YET = ("text2text-generation",)
_REPORTED = ("operators", "delegates")
_LONGEST = 2000


def precisions() -> Sequence[str]:
    """The precisions that it can make."""
    return [precision for name, precision in RECIPES if name == "tflite"]


def coverage() -> Coverage:
    """Which models it takes, told by their configuration alone."""
    return Coverage({task: types for task, types in MODEL_TYPES.items() if task not in _NOT_YET})


def tolerances() -> Mapping[tuple[str, str], Tolerances]:
    """How close its artifacts stay, by precision and by what a task's outputs are."""
    return TOLERANCES


def check(job: Job) -> None:
    """Refuse what no engine of the target loads, and integers where they cannot be right."""
    engine, _ = _engine(job)
    rotation_of(job)
    slots_of(job)
    contained(job)
    for_mediapipe(job)
    refuse_newer(job.recipe.precision, engine)
    if job.recipe.precision == STATIC:
        refuse_static_attention(job.source.folder, job.source.architecture)


def toolchain() -> str:
    """The toolchain that its stages and the reference run in."""
    return "litert"


def build(job: Job, stages: Stages) -> Artifact:
    """Convert, quantise where the recipe asks for it, and describe the file for other tools."""
    done = {"convert": stages.run(_convert(job))}
    model = done["convert"]
    if job.recipe.precision != EXACT:
        inputs = {"model": model}
        if job.recipe.precision == STATIC:
            inputs["samples"] = done["calibrate"] = stages.run(_calibrate(job, model, stages))
        model = done["quantise"] = stages.run(_quantise(job, inputs))
    described = done["describe"] = stages.run(_describe(job, model, done["convert"]))
    files = _files(described)
    if contained(job):
        whole = done["contain"] = stages.run(_contain(job, described, done["convert"]))
        files[CONTAINER] = whole.path / CONTAINER
    if for_mediapipe(job):
        done["mediapipe"] = stages.run(_mediapipe(job, described, done["convert"]))
        files[MEDIAPIPE_FILE] = described.path / MEDIAPIPE_FILE
    shapes = _shapes(job, done["convert"]) if job.shapes else {}
    return Artifact(
        model=described.as_input(FILE),
        name=FILE,
        engine_toolchain=_engine(job)[1][0],
        results=tuple(done.values()),
        stages=tuple(done),
        options={name: str(described.data[name])[:_LONGEST] for name in _REPORTED},
        parts=_ENCODER if job.source.task == "automatic-speech-recognition" else {},
        shapes=shapes,
        buckets={FILE: FILE} if shapes else {},
        files=files,
        findings=tuple(str(one) for one in _listed(described, "findings")),
        pending=_pending(job),
    )


def engine_options(job: Job) -> dict[str, str | int | float | bool]:
    """What the runtime is told: the shapes, and which of the target's engines it was proved in."""
    name, (_, version) = _engine(job)
    options: dict[str, str | int | float | bool] = {"engine": name, "proved_in": version}
    slots = slots_of(job)
    if slots is not None:
        options |= {"context_length": slots.context, "signatures": ",".join(slots.signatures)}
    else:
        options["shapes"] = str(job.shapes)
    return {**options, **rotation_of(job)}


def _shapes(job: Job, converted: StageResult) -> Mapping[str, JSON]:
    buckets: list[JSON] = [{"path": FILE, "sizes": {**sizes}} for sizes in job.shapes.buckets()]
    told = converted.data
    return {
        "inputs": told["inputs"],
        "outputs": told["outputs"],
        "padding": told["padding"],
        "buckets": buckets,
    }


def signatures(job: Job) -> dict[str, dict[str, int]]:
    """Return the sizes of each signature; the first, the largest, is the one tools look for."""
    largest, *others = job.shapes.buckets()
    return {SIGNATURE: largest, **{stem_of(sizes): sizes for sizes in others}}


def _convert(job: Job) -> StageSpec:
    source = job.source
    slots = slots_of(job)
    params: dict[str, JSON] = {"task": source.task, "files": list(source.files)}
    more: dict[str, JSON]
    if slots is not None:
        more = {"context": slots.context, "signatures": {**slots.signatures}}
    else:
        more = {
            "signatures": {name: {**sizes} for name, sizes in signatures(job).items()},
            "mediapipe": for_mediapipe(job),
        }
    return StageSpec(
        name="convert",
        call=f"{_SLOTTED.get(source.task, _WORKER)}:convert",
        version=4,
        inputs={"source": StageInput(source.folder, source.digest)},
        params={**params, **more},
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes * 6 + (2 << 30),
    )


def _calibrate(job: Job, converted: StageResult, stages: Stages) -> StageSpec:
    source, kept = job.source, given_stage(job.given, toolchain())
    given = {} if kept is None else {INPUT: stages.run(kept).as_input()}
    pairs = paired(job.given.texts) if job.given else ()
    return StageSpec(
        name="calibrate",
        call="edgeward.compiler.formats.tflite_samples:calibrate",
        version=1,
        inputs={"source": StageInput(source.folder, source.digest), **given},
        params={
            "task": source.task,
            "texts": list(pairs or job.calibration),
            "shapes": dict(_shapes(job, converted)),
            "signatures": {name: {**sizes} for name, sizes in signatures(job).items()},
        },
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes * 2 + (1 << 29),
    )


def _quantise(job: Job, inputs: Mapping[str, StageResult]) -> StageSpec:
    params: dict[str, JSON] = {"precision": job.recipe.precision, **rotation_of(job)}
    return StageSpec(
        name="quantise",
        call="edgeward.compiler.formats.tflite_quantise:quantise",
        version=4,
        inputs={name: result.as_input() for name, result in inputs.items()},
        params=params,
        toolchain=toolchain(),
        estimate_bytes=job.source.weight_bytes * 6 + (1 << 30),
    )


def _describe(job: Job, model: StageResult, converted: StageResult) -> StageSpec:
    source = job.source
    return StageSpec(
        name="describe",
        call="edgeward.compiler.formats.tflite_describe:describe",
        version=2,
        inputs={"model": model.as_input(), "assets": converted.as_input("assets")},
        params={
            "task": source.task,
            "name": source.id,
            "license": source.license or "",
            "kinds": [unit.kind for unit in job.profile.hardware.units],
            "engine": _engine(job)[0],
        },
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes * 2 + (1 << 29),
    )


def _contain(job: Job, described: StageResult, converted: StageResult) -> StageSpec:
    slots = slots_of(job)
    return StageSpec(
        name="contain",
        call="edgeward.compiler.formats.tflite_litertlm:contain",
        version=1,
        inputs={"model": described.as_input(FILE), "assets": converted.as_input("assets")},
        params={"slots": slots.context if slots else 0},
        toolchain=toolchain(),
        estimate_bytes=1 << 29,
    )


def _mediapipe(job: Job, described: StageResult, converted: StageResult) -> StageSpec:
    return StageSpec(
        name="mediapipe",
        call="edgeward.compiler.formats.tflite_mediapipe_check:check",
        version=1,
        inputs={"model": described.as_input(), "assets": converted.as_input("assets")},
        params={"task": job.source.task, "precision": job.recipe.precision},
        toolchain=toolchain(),
        estimate_bytes=job.source.weight_bytes * 4 + (1 << 29),
    )


def _files(described: StageResult) -> dict[str, Path]:
    return {name: described.path / name for name in map(str, _listed(described, "files"))}


def _pending(job: Job) -> tuple[str, ...]:
    """What a processor cannot show: its kernels were run, an accelerator's were not."""
    found = [f"{unit.title}: its kernels were not run" for unit in job.profile.hardware.units
             if unit.kind in ("gpu", "npu")]  # fmt: skip
    if (engine := _engine(job)[0]) in _NO_PACKAGE:
        found.append(f"{engine}: the host's kernels ran the file")
    return tuple(found)


def _engine(job: Job) -> tuple[str, tuple[str, str]]:
    """The target's engine that loads TFLite, asked for or its first, with where it is proved."""
    profile = job.profile
    for engine in profile.engines:
        proved = ENGINE_TOOLCHAINS.get(engine.name)
        if proved is None or job.engine not in (None, engine.name):
            continue
        if engine.name in _NO_PACKAGE or engine.allows(proved[1]):
            return engine.name, proved
    known = ", ".join(f"{name} {version}" for name, (_, version) in ENGINE_TOOLCHAINS.items())
    raise UnsupportedError(
        f"{job.engine or profile.name} runs no TFLite",
        why=f"its profile names none of {known}",
        next=f"edgeward targets show {profile.name}",
    )


def _listed(result: StageResult, name: str) -> list[Any]:
    found = result.data[name]
    return found if isinstance(found, list) else []
