"""ONNX: export through transformers' exporters, then the pass that the precision asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeward.compiler.given_stage import INPUT, given_stage
from edgeward.compiler.recipe import RECIPES
from edgeward.compiler.stages import JSON, StageInput, StageResult, StageSpec
from edgeward.compiler.tasks import task_spec
from edgeward.compiler.texts import paired
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

    `suffix` ends the file's name as optimum and transformers.js look for it. A graph that is not
    `portable` has operators that ONNX Runtime alone runs; one that `reads_fused` takes a graph
    that is tuned already.
    """

    suffix: str
    function: str
    version: int
    params: Mapping[str, JSON]
    portable: bool
    calibrated: bool = False
    reads_fused: bool = False


@dataclass(frozen=True, slots=True)
class Exporter:
    """What writes a task's graph, as `module:function`; `tunes` where it fuses for an engine.

    `graph` and `parts`, by their role, are the names by which optimum knows the files.
    """

    function: str
    version: int
    tunes: bool = False
    graph: str = "model"
    parts: Mapping[str, str] = field(default_factory=dict)


_EXPORTER = Exporter(f"{_WORKER}:export", 4)
_SEQUENCES = Exporter(
    "edgeward.compiler.formats.onnx_sequences:export",
    2,
    graph="decoder_with_past_model",
    parts={"encoder": "encoder_model"},
)
EXPORTERS = {
    "text-generation": Exporter("edgeward.compiler.formats.onnx_decoder:export", 3, tunes=True),
    "text2text-generation": _SEQUENCES,
    "automatic-speech-recognition": _SEQUENCES,
}
PASSES = {
    "fp16": Pass("_fp16", "halve", 1, {}, portable=True),
    "int8-dynamic": Pass("_quantized", "quantise", 4, {}, portable=True, reads_fused=True),
    "int8-static": Pass("_uint8", "quantise_static", 2, {}, portable=True, calibrated=True),
    "int8-weights": Pass(
        "_int8",
        "round_weights",
        1,
        {"bits": 8, "block_size": 32},
        portable=False,
        reads_fused=True,
    ),
    "int4-weights": Pass(
        "_q4",
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
    """Export, optimise, then quantise where the recipe asks for it."""
    wanted = PASSES.get(job.recipe.precision)
    if wanted is not None and wanted.calibrated and task_spec(job.source.task).generates:
        raise UnsupportedError(
            f"{job.recipe.precision} is not for a model that writes token by token",
            why="calibration would need what its cache holds",
            next="edgeward compile … --precision int8-dynamic",
        )
    exporter = EXPORTERS.get(job.source.task, _EXPORTER)
    done = {"export": stages.run(_export(job))}
    if not exporter.tunes:
        done["optimise"] = stages.run(_optimise(job, done["export"]))
    model = list(done.values())[-1]
    fused = not exporter.tunes and bool(model.data["fused_attentions"])
    if wanted is not None:
        inputs = {"model": model}
        if wanted.calibrated:
            inputs["samples"] = done["calibrate"] = stages.run(_calibrate(job, stages))
        model = done["quantise"] = stages.run(_quantise(job, wanted, inputs))
    suffix = wanted.suffix if wanted is not None else ""
    return Artifact(
        model=model.as_input("model.onnx"),
        name=_place(exporter.graph, suffix),
        engine_toolchain=_engine_toolchain(job.profile),
        results=tuple(done.values()),
        stages=tuple(done),
        parts={role: _place(graph, suffix) for role, graph in exporter.parts.items()},
        options={"portable": False} if fused else {},
    )


def _place(graph: str, suffix: str) -> str:
    return f"onnx/{graph}{suffix}.onnx"


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
    """Whether its exporter fuses it for ONNX Runtime's processor provider, batch one."""
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


def _optimise(job: Job, export: StageResult) -> StageSpec:
    """Fused attention is for ONNX Runtime's processor provider, in float or beside int8.

    Between QDQ pairs ONNX Runtime multiplies rows as a float Gemm, so static int8 has none.
    """
    providers = tuple(_engine(job.profile).providers_for(job.recipe.precision))
    processor = providers == (_PROCESSOR,)
    return StageSpec(
        name="optimise",
        call="edgeward.compiler.formats.onnx_optimise:optimise",
        version=3,
        inputs={"model": export.as_input()},
        params={
            "rows": job.recipe.precision != "int8-static",
            "sums": processor,
            "fuse": processor and not job.portable and job.recipe.precision != "fp16",
        },
        toolchain=toolchain(),
        estimate_bytes=job.source.weight_bytes * 3 + (1 << 29),
    )


def _calibrate(job: Job, stages: Stages) -> StageSpec:
    source = job.source
    kept = given_stage(job.given, toolchain())
    given = {} if kept is None else {INPUT: stages.run(kept).as_input()}
    pairs = paired(job.given.texts) if job.given else ()
    return StageSpec(
        name="calibrate",
        call=f"{_WORKER}:calibrate",
        version=3,
        inputs={"source": StageInput(source.folder, source.digest), **given},
        params={"task": source.task, "texts": list(pairs or job.calibration)},
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes * 2 + (1 << 29),
    )


def _quantise(job: Job, wanted: Pass, inputs: Mapping[str, StageResult]) -> StageSpec:
    return StageSpec(
        name="quantise",
        call=f"{_WORKER}:{wanted.function}",
        version=wanted.version,
        inputs={name: result.as_input() for name, result in inputs.items()},
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
