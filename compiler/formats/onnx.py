"""ONNX: export through transformers' exporters, then the pass that the precision asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeward.compiler.adapter_merge import ADAPTER_OPTIONS, check_adapter
from edgeward.compiler.architectures import GRAPHS, Coverage
from edgeward.compiler.given_stage import INPUT, given_stage
from edgeward.compiler.recipe import RECIPES
from edgeward.compiler.shapes import stem_of
from edgeward.compiler.stages import JSON, StageInput, StageResult, StageSpec
from edgeward.compiler.texts import paired
from edgeward.compiler.tolerance import Tolerances
from edgeward.compiler.tolerances import TOLERANCES
from edgeward.errors import UnsupportedError
from edgeward.targets.profile import Engine, Profile

from .base import Artifact, Job, Stages
from .onnx_tensorrt import for_tensorrt, is_for_tensorrt

ENGINE = "onnxruntime"
OPTIONS = ADAPTER_OPTIONS
OPSET = 20
_PROCESSOR = "CPUExecutionProvider"
ENGINE_TOOLCHAINS = {"onnxruntime": "1.32.0", "onnxruntime-1.23": "1.23.2"}
_WORKER = "edgeward.compiler.formats.onnx_worker"


@dataclass(frozen=True, slots=True)
class Pass:
    """What turns the float graph into another precision, as `module:function` beside this file.

    `suffix` ends the file's name as optimum and transformers.js look for it. A graph that is not
    `portable` has operators that ONNX Runtime alone runs; one that `reads_fused` takes a graph
    that is tuned already. One that is `calibrated` reads samples, where the task has any unless it
    `needs_samples`. `options` are what the manifest's recipe says of it.
    """

    suffix: str
    function: str
    version: int
    params: Mapping[str, JSON]
    portable: bool
    calibrated: bool = False
    reads_fused: bool = False
    needs_samples: bool = True
    options: Mapping[str, str] = field(default_factory=dict)


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


_EXPORTER = Exporter(f"{_WORKER}:export", 5)
_SEQUENCES = Exporter(
    "edgeward.compiler.formats.onnx_sequences:export",
    3,
    graph="decoder_with_past_model",
    parts={"encoder": "encoder_model"},
)
EXPORTERS = {
    "text-generation": Exporter("edgeward.compiler.formats.onnx_decoder:export", 5, tunes=True),
    "text2text-generation": _SEQUENCES,
    "automatic-speech-recognition": _SEQUENCES,
}
# An encoder with a decoder would be calibrated on what it wrote itself.
_UNCALIBRATED = frozenset(task for task, one in EXPORTERS.items() if one is _SEQUENCES)
_BLOCKS = {"block_size": 32}
PASSES = {
    "fp16": Pass("_fp16", "onnx_worker:halve", 1, {}, portable=True),
    "bf16": Pass(
        "_bf16",
        "onnx_weights:store_bfloat16",
        1,
        {},
        portable=True,
        reads_fused=True,
        options={"compute": "float32"},
    ),
    "int8-dynamic": Pass(
        "_quantized", "onnx_worker:quantise", 5, {}, portable=True, reads_fused=True
    ),
    "int8-mixed": Pass(
        "_quantized_mixed",
        "onnx_weights:mix_dynamic",
        2,
        {},
        portable=True,
        calibrated=True,
        reads_fused=True,
    ),
    "int8-static": Pass(
        "_uint8", "onnx_worker:quantise_static", 5, {}, portable=True, calibrated=True
    ),
    "int8-weights": Pass(
        "_int8",
        "onnx_weights:round_weights",
        2,
        {"bits": 8, **_BLOCKS},
        portable=False,
        reads_fused=True,
    ),
    "int4-mixed": Pass(
        "_q4_mixed",
        "onnx_weights:mix_weights",
        1,
        _BLOCKS,
        portable=False,
        calibrated=True,
        reads_fused=True,
    ),
    "int4-weights": Pass(
        "_q4",
        "onnx_weights:round_weights",
        2,
        {"bits": 4, **_BLOCKS},
        portable=False,
        calibrated=True,
        reads_fused=True,
        needs_samples=False,
    ),
}


def precisions() -> Sequence[str]:
    """The precisions that it can make."""
    return [precision for name, precision in RECIPES if name == "onnx"]


def coverage() -> Coverage:
    """Which models it takes, told by their configuration alone."""
    return GRAPHS


def tolerances() -> Mapping[tuple[str, str], Tolerances]:
    """How close its artifacts stay, by precision and by what a task's outputs are."""
    return TOLERANCES


def check(job: Job) -> None:
    """Refuse an adapter beside the weights; all else shows when its graph is made."""
    check_adapter(job, separate=False)


def toolchain() -> str:
    """The toolchain that its stages and the reference run in."""
    return "onnx"


def build(job: Job, stages: Stages) -> Artifact:
    """Export, optimise, then quantise where the recipe asks for it."""
    wanted = PASSES.get(job.recipe.precision)
    calibrated = wanted is not None and _is_calibrated(job, wanted)
    is_for_tensorrt(job)
    exporter = EXPORTERS.get(job.source.task, _EXPORTER)
    done = {"export": stages.run(_export(job))}
    if not exporter.tunes:
        done["optimise"] = stages.run(_optimise(job, done["export"]))
    model = list(done.values())[-1]
    fused = not exporter.tunes and bool(model.data["fused_attentions"])
    if wanted is not None:
        inputs = {"model": model}
        if calibrated:
            inputs["samples"] = done["calibrate"] = stages.run(_calibrate(job, stages))
        model = done["quantise"] = stages.run(_quantise(job, wanted, inputs))
    if job.shapes:
        model = done["shapes"] = stages.run(_fix_shapes(job, model, done["export"]))
    suffix = wanted.suffix if wanted is not None else ""
    typed, built = for_tensorrt(job, model, done["export"], stages)
    if typed is not None:
        model = done["typed"] = typed
    return Artifact(
        model=model.as_input("model.onnx"),
        name=_place(exporter.graph, suffix),
        engine_toolchain=_engine_toolchain(job.profile),
        results=tuple(done.values()),
        stages=tuple(done),
        parts={role: _place(graph, suffix) for role, graph in exporter.parts.items()},
        options={
            **(wanted.options if wanted is not None else {}),
            **({"portable": False} if fused else {}),
            **built,
        },
        **_fixed(job, exporter.graph, suffix, done),
    )


def _is_calibrated(job: Job, wanted: Pass) -> bool:
    """Whether samples are read; UnsupportedError where they are needed and cannot be had."""
    if not wanted.calibrated or job.source.task not in _UNCALIBRATED:
        return wanted.calibrated
    if not wanted.needs_samples:
        return False
    raise UnsupportedError(
        f"{job.recipe.precision} is not for an encoder with a decoder",
        why="calibration would need what its decoder looks back at",
        next="edgeward compile … --precision int8-dynamic",
    )


def _fixed(job: Job, graph: str, suffix: str, done: Mapping[str, StageResult]) -> dict[str, Any]:
    """What the artifact says of its shapes; nothing where they are dynamic."""
    if not job.shapes:
        return {}
    stems = _stems(job)
    places = {f"{stem}.onnx": _place(f"{graph}_{stem}", suffix) for stem in stems}
    told = done["export"].data
    shapes = {
        "inputs": told["inputs"],
        "outputs": told["outputs"],
        "padding": done["shapes"].data["padding"],
        "buckets": [{"path": f"{stem}.onnx", "sizes": sizes} for stem, sizes in stems.items()],
    }
    return {"shapes": shapes, "buckets": {**places, "model.onnx": _place(graph, suffix)}}


def _stems(job: Job) -> dict[str, JSON]:
    """The files of the fixed graphs; the largest is the one that other tools look for."""
    largest, *others = job.shapes.buckets()
    return {"model": {**largest}, **{stem_of(sizes): {**sizes} for sizes in others}}


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
        **({"shapes": str(job.shapes)} if job.shapes else {}),
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
    processor = providers == (_PROCESSOR,) and not is_for_tensorrt(job)
    return StageSpec(
        name="optimise",
        call="edgeward.compiler.formats.onnx_optimise:optimise",
        version=4,
        inputs={"model": export.as_input()},
        params={
            "rows": job.recipe.precision != "int8-static",
            "sums": processor,
            "fuse": processor and not _is_plain(job) and job.recipe.precision != "fp16",
        },
        toolchain=toolchain(),
        estimate_bytes=job.source.weight_bytes * 3 + (1 << 29),
    )


def _is_plain(job: Job) -> bool:
    """Fixed shapes are for engines that plan ahead: they know the standard operators alone."""
    return job.portable or bool(job.shapes)


def _fix_shapes(job: Job, model: StageResult, export: StageResult) -> StageSpec:
    stems = _stems(job)
    return StageSpec(
        name="shapes",
        call="edgeward.compiler.formats.onnx_shapes:fix_shapes",
        version=1,
        inputs={"model": model.as_input(), "assets": export.as_input("assets")},
        params={"buckets": stems, "words": [stem_of(sizes) for sizes in job.shapes.buckets()]},
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
        version=4,
        inputs={"source": StageInput(source.folder, source.digest), **given},
        params={"task": source.task, "texts": list(pairs or job.calibration)},
        toolchain=toolchain(),
        estimate_bytes=source.weight_bytes * 2 + (1 << 29),
    )


def _quantise(job: Job, wanted: Pass, inputs: Mapping[str, StageResult]) -> StageSpec:
    return StageSpec(
        name="quantise",
        call=f"edgeward.compiler.formats.{wanted.function}",
        version=wanted.version,
        inputs={name: result.as_input() for name, result in inputs.items()},
        params={**wanted.params, **_signed(job, wanted)},
        toolchain=toolchain(),
        estimate_bytes=job.source.weight_bytes * 5 + (1 << 29),
    )


def _signed(job: Job, wanted: Pass) -> dict[str, JSON]:
    """TensorRT restores symmetric int8 in products alone: no zero points, no int8 look-ups."""
    if not wanted.calibrated or not is_for_tensorrt(job):
        return {}
    return {"symmetric": True, "tables": False}


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
