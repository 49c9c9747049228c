"""ONNX: export through transformers' exporters, dynamic int8 through ONNX Runtime's quantiser."""

from __future__ import annotations

from collections.abc import Sequence

from edgeward.compiler.recipe import RECIPES
from edgeward.compiler.stages import StageInput, StageResult, StageSpec
from edgeward.errors import UnsupportedError
from edgeward.targets.profile import Engine, Profile

from .base import Artifact, Job, Stages

ENGINE = "onnxruntime"
OPSET = 20
ENGINE_TOOLCHAINS = {"onnxruntime": "1.32.0", "onnxruntime-1.23": "1.23.2"}
_FLOAT_NAME, _INT8_NAME = "onnx/model.onnx", "onnx/model_quantized.onnx"
_WORKER = "edgeward.compiler.formats.onnx_worker"


def precisions() -> Sequence[str]:
    """The precisions that it can make."""
    return [precision for name, precision in RECIPES if name == "onnx"]


def toolchain() -> str:
    """The toolchain that its stages and the reference run in."""
    return "onnx"


def build(job: Job, stages: Stages) -> Artifact:
    """Export, then quantise where the recipe asks for it."""
    engine = _engine_toolchain(job.profile)
    export = stages.run(_export(job))
    if job.recipe.precision == "fp32":
        return _artifact(export, "model.onnx", _FLOAT_NAME, engine, (export,))
    quantise = stages.run(_quantise(job, export))
    return _artifact(quantise, "model.onnx", _INT8_NAME, engine, (export, quantise))


def engine_options(job: Job) -> dict[str, str | int | float | bool]:
    """The providers in the order of the profile, for this precision."""
    providers = _engine(job.profile).providers_for(job.recipe.precision)
    return {"opset": _opset(job.profile), "providers": ",".join(providers)}


def _export(job: Job) -> StageSpec:
    source = job.source
    return StageSpec(
        name="export",
        call=f"{_WORKER}:export",
        version=3,
        inputs={"source": StageInput(source.folder, source.digest)},
        params={"opset": _opset(job.profile), "task": source.task, "files": list(source.files)},
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes * 6 + (1 << 30),
    )


def _quantise(job: Job, export: StageResult) -> StageSpec:
    return StageSpec(
        name="quantise",
        call=f"{_WORKER}:quantise",
        version=2,
        inputs={"model": export.as_input()},
        params={"per_channel": job.recipe.granularity == "per-channel"},
        toolchain=toolchain(),
        estimate_bytes=job.source.weight_bytes * 5 + (1 << 29),
    )


def _artifact(
    result: StageResult, file: str, name: str, engine: str, results: tuple[StageResult, ...]
) -> Artifact:
    return Artifact(result.as_input(file), name, engine, results)


def _engine(profile: Profile) -> Engine:
    for engine in profile.engines:
        if engine.name == ENGINE:
            return engine
    raise UnsupportedError(
        f"{profile.name} runs no ONNX", why="its profile names no onnxruntime engine"
    )


def _engine_toolchain(profile: Profile) -> str:
    """The first environment whose engine the device may have too."""
    engine = _engine(profile)
    for name, version in ENGINE_TOOLCHAINS.items():
        if engine.allows(version):
            return name
    raise UnsupportedError(
        f"No ONNX Runtime at hand is one that {profile.name} runs",
        why=f"it wants {engine.version}, there are {', '.join(ENGINE_TOOLCHAINS.values())}",
    )


def _opset(profile: Profile) -> int:
    return min(OPSET, profile.limits.opset_max or OPSET)
