"""ONNX: export through transformers' exporters, then the pass that the precision asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeward.compiler.recipe import RECIPES
from edgeward.compiler.stages import JSON, StageInput, StageResult, StageSpec
from edgeward.errors import UnsupportedError
from edgeward.targets.profile import Engine, Profile

from .base import Artifact, Job, Stages

ENGINE = "onnxruntime"
OPSET = 20
_PROCESSOR = "CPUExecutionProvider"
ENGINE_TOOLCHAINS = {"onnxruntime": "1.32.0", "onnxruntime-1.23": "1.23.2"}
_WORKER = "edgeward.compiler.formats.onnx_worker"


@dataclass(frozen=True, slots=True)
class Pass:
    """What turns the float graph into another precision, as `function(version)` of the worker.

    `file` is the name by which optimum and transformers.js look for it. A graph that is not
    `portable` has operators that ONNX Runtime alone runs; one that `reads_fused` takes a graph
    that is tuned already.
    """

    file: str
    function: str
    version: int
    params: Mapping[str, JSON]
    portable: bool
    calibrated: bool = False
    reads_fused: bool = False


@dataclass(frozen=True, slots=True)
class Exporter:
    """What writes a task's graph, as `module:function`; `tunes` where it fuses for an engine."""

    function: str
    version: int
    tunes: bool = False


_EXPORTER = Exporter(f"{_WORKER}:export", 3)
EXPORTERS = {
    "text-generation": Exporter("edgeward.compiler.formats.onnx_decoder:export", 2, tunes=True),
}
PASSES = {
    "fp16": Pass("onnx/model_fp16.onnx", "halve", 1, {}, portable=True),
    "int8-dynamic": Pass(
        "onnx/model_quantized.onnx", "quantise", 4, {}, portable=True, reads_fused=True
    ),
    "int8-static": Pass(
        "onnx/model_uint8.onnx", "quantise_static", 2, {}, portable=True, calibrated=True
    ),
    "int8-weights": Pass(
        "onnx/model_int8.onnx",
        "round_weights",
        1,
        {"bits": 8, "block_size": 32},
        portable=False,
        reads_fused=True,
    ),
    "int4-weights": Pass(
        "onnx/model_q4.onnx",
        "round_weights",
        1,
        {"bits": 4, "block_size": 32},
        portable=False,
        reads_fused=True,
    ),
}


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
    wanted = PASSES.get(job.recipe.precision)
    if wanted is None:
        model = export.as_input("model.onnx")
        return Artifact(model, "onnx/model.onnx", engine, (export,), ("export",))
    before, names = [export], ["export"]
    if wanted.calibrated:
        before.append(stages.run(_calibrate(job)))
        names.append("calibrate")
    quantise = stages.run(_quantise(job, wanted, before))
    model = quantise.as_input("model.onnx")
    return Artifact(model, wanted.file, engine, (*before, quantise), (*names, "quantise"))


def engine_options(job: Job) -> dict[str, str | int | float | bool]:
    """The providers in the order of the profile, for this precision."""
    providers = _engine(job.profile).providers_for(job.recipe.precision)
    wanted = PASSES.get(job.recipe.precision)
    return {
        "opset": _opset(job.profile),
        "providers": ",".join(providers),
        "portable": not _is_tuned(job) and (wanted is None or wanted.portable),
    }


def _is_tuned(job: Job) -> bool:
    """Whether its graph is fused for ONNX Runtime's processor provider, batch one."""
    exporter = EXPORTERS.get(job.source.task, _EXPORTER)
    wanted = PASSES.get(job.recipe.precision)
    providers = _engine(job.profile).providers_for(job.recipe.precision)
    reads_fused = wanted is None or wanted.reads_fused
    wants_it = exporter.tunes and not job.portable
    return wants_it and reads_fused and tuple(providers) == (_PROCESSOR,)


def _export(job: Job) -> StageSpec:
    source = job.source
    exporter = EXPORTERS.get(source.task, _EXPORTER)
    return StageSpec(
        name="export",
        call=exporter.function,
        version=exporter.version,
        inputs={"source": StageInput(source.folder, source.digest)},
        params={
            "opset": _opset(job.profile),
            "task": source.task,
            "files": list(source.files),
            **({"tuned": _is_tuned(job)} if exporter.tunes else {}),
        },
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes * 6 + (1 << 30),
    )


def _calibrate(job: Job) -> StageSpec:
    source = job.source
    return StageSpec(
        name="calibrate",
        call=f"{_WORKER}:calibrate",
        version=1,
        inputs={"source": StageInput(source.folder, source.digest)},
        params={"task": source.task, "texts": list(job.calibration)},
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes * 2 + (1 << 29),
    )


def _quantise(job: Job, wanted: Pass, before: Sequence[StageResult]) -> StageSpec:
    return StageSpec(
        name="quantise",
        call=f"{_WORKER}:{wanted.function}",
        version=wanted.version,
        inputs=dict(zip(("model", "samples"), [r.as_input() for r in before], strict=False)),
        params=wanted.params,
        toolchain=toolchain(),
        estimate_bytes=job.source.weight_bytes * 5 + (1 << 29),
    )


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
