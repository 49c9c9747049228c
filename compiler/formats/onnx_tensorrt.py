"""ONNX for TensorRT: who asks for it, the ranges of its axes, and the stage that types the graph.

The device builds the engine from the bundle's graph (`edgeward finalize`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeward.compiler.stages import StageResult, StageSpec
from edgeward.compiler.tasks import task_spec
from edgeward.errors import UnsupportedError
from edgeward.runtimes.finalize.ranges import Range, format_ranges, parse_ranges
from edgeward.runtimes.finalize.wants import ENGINE_OPTION, RANGES_OPTION, TENSORRT
from edgeward.runtimes.tasks.tokens import token_limit

from .base import Job, Stages

PRECISIONS = ("fp32", "fp16", "int8-static")
REFUSED_OPTION = "tensorrt_refused"
_UNLIMITED = 1024
_USUAL_TOKENS = 128
_MANY, _FEW = Range(1, 1, 32), Range(1, 1, 8)
# Half a second, five and thirty, at 16 kHz.
_SAMPLES = Range(8000, 80_000, 480_000)
_MAX_WORDS = 400

Options = dict[str, str | int | float | bool]


def is_for_tensorrt(job: Job) -> bool:
    """Whether the graph is made for TensorRT: asked for by name, or the target's own way.

    Raises UnsupportedError where it was asked for by name and cannot be.
    """
    writes = task_spec(job.source.task).generates
    if job.engine != TENSORRT:
        builds = [each.builds for each in job.profile.engines if each.name == TENSORRT]
        suits = not writes and not job.shapes and job.recipe.precision in sum(builds, ())
        return job.engine is None and suits
    if job.shapes:
        raise UnsupportedError(
            "TensorRT is built for ranges of shapes, not of graphs with fixed ones",
            why=f"asked for are {job.shapes}",
            next="edgeward compile … --engine tensorrt --range sequence=128:128:128",
        )
    if job.recipe.precision not in PRECISIONS:
        raise UnsupportedError(
            f"TensorRT is not built of {job.recipe.precision}",
            why=f"it takes strongly typed graphs: {', '.join(PRECISIONS)}",
        )
    if writes:
        raise UnsupportedError(
            "TensorRT is not for a model that writes token by token",
            why="its cache would travel to the device and back with every token",
        )
    return True


def for_tensorrt(
    job: Job, model: StageResult, export: StageResult, stages: Stages
) -> tuple[StageResult | None, Options]:
    """Return the graph as TensorRT takes it, None where it is not for that, and the options.

    A graph that TensorRT does not take is another engine's, which is told; asked for by name it is
    refused with UnsupportedError.
    """
    if not is_for_tensorrt(job):
        return None, {}
    try:
        ranges = _ranges(job, export.data["inputs"])
        made = stages.run(_typed(job, model))
        _refuse_problems(made)
    except UnsupportedError as error:
        if job.engine == TENSORRT or job.ranges:
            raise
        return None, {REFUSED_OPTION: error.why[:_MAX_WORDS]}
    return made, {ENGINE_OPTION: TENSORRT, RANGES_OPTION: format_ranges(ranges)}


def _refuse_problems(checked: StageResult) -> None:
    problems = [str(each) for each in _listed(checked.data["problems"])]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UnsupportedError(
            "TensorRT does not take this graph",
            why=f"{problems[0]}{more}",
            next="edgeward compile … --engine onnxruntime",
        )


def _typed(job: Job, model: StageResult) -> StageSpec:
    return StageSpec(
        name="typed",
        call="edgeward.compiler.formats.onnx_tensorrt_typed:typed",
        version=1,
        inputs={"model": model.as_input()},
        params={},
        toolchain="onnx",
        estimate_bytes=job.source.weight_bytes * 2 + (1 << 29),
    )


def _ranges(job: Job, inputs: Any) -> dict[str, Range]:
    """What was asked for, else what the task's axes usually need."""
    asked = parse_ranges(",".join(job.ranges))
    names = [axis for spec in _listed(inputs) for axis in spec["shape"] if isinstance(axis, str)]
    unknown = sorted(set(asked) - set(names))
    if unknown:
        raise UnsupportedError(
            f"The model has no axis {unknown[0]}", why=f"its axes are {', '.join(sorted(names))}"
        )
    known = {
        "sequence": _tokens(job),
        "samples": _SAMPLES,
        "batch": _MANY if "sequence" in names else _FEW,
        "texts": _MANY,
        "images": _FEW,
    }
    given = {name: each for name, each in {**known, **asked}.items() if name in names}
    lacking = [name for name in names if name not in given]
    if lacking:
        raise UnsupportedError(
            "TensorRT cannot be built of this model",
            why=f"nothing says how long {lacking[0]} may be",
            next=f"edgeward compile … --range {lacking[0]}=1:8:64",
        )
    return given


def _tokens(job: Job) -> Range:
    most = token_limit(job.source.folder) or _UNLIMITED
    return Range(1, min(_USUAL_TOKENS, most), most)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()
