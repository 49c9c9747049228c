"""The proof of one job as stages: reference, verify, benchmark; and a race of several artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeward.errors import ProofError
from edgeward.runtimes.bundle.canonical import JSON

from .adapter_merge import adapted, adapter_options
from .formats.base import Artifact, Format, Job, Stages
from .formats.registry import format_module
from .given_stage import INPUT, given_stage
from .held import tolerances_of
from .package import Proved, measured_metrics
from .stages import StageInput, StageResult, StageSpec
from .tasks import task_spec
from .texts import ProofTexts

_BENCHMARK_TEXT = (
    "The ferry to the northern islands leaves from the second pier at a quarter past seven, "
    "so please be there in good time."
)


def prove(job: Job, texts: ProofTexts, stages: Stages) -> Proved:
    """Build a job's artifact, hold it against the original and time it in its engine."""
    module = format_module(job.recipe.format)
    job = adapted(job, module.toolchain(), stages)
    artifact = module.build(job, stages)
    kept = given_stage(texts.given, module.toolchain())
    given = {} if kept is None else {INPUT: stages.run(kept).as_input()}
    reference = stages.run(_reference(job, texts, module, given))
    verify = stages.run(_verify(job, texts, artifact, reference))
    # How long an evaluator takes is no device's figure.
    runs = artifact.verified == "engine"
    benchmark = stages.run(_benchmark(job, artifact, reference)) if runs else None
    metrics = measured_metrics(artifact, verify)
    bounds = tolerances_of(job).measured(metrics)
    bounded = (*bounds.golden, *bounds.compile_only)
    checks = tuple(bound.check(metrics[bound.metric]) for bound in bounded)
    options = {**module.engine_options(job), **adapter_options(job), **artifact.options}
    return Proved(job, artifact, options, reference, verify, benchmark, checks)


def _reference(
    job: Job, texts: ProofTexts, module: Format, given: Mapping[str, StageInput]
) -> StageSpec:
    source = job.original or job.source
    return StageSpec(
        name="reference",
        call=task_spec(source.task).reference,
        version=5,
        inputs={"source": StageInput(source.folder, source.digest), **given},
        params={
            "task": source.task,
            "golden_names": list(texts.golden),
            "golden_texts": list(texts.golden.values()),
            "evaluation_texts": list(texts.evaluation),
            **({"evaluation_pairs": list(texts.pairs)} if texts.pairs else {}),
            "seed": 0,
            **_sizes(job),
        },
        toolchain=module.toolchain(),
        estimate_bytes=source.weight_bytes * 2 + (1 << 30),
    )


def _verify(job: Job, texts: ProofTexts, artifact: Artifact, reference: StageResult) -> StageSpec:
    call, params = task_spec(job.source.task).verify, _parts(artifact)
    if artifact.shapes:
        call, params = "edgeward.compiler.shape_verify:verify", {**params, "verify": call}
    return StageSpec(
        name="verify",
        call=call,
        version=7,
        inputs={
            "model": artifact.model,
            "assets": artifact.results[0].as_input("assets"),
            "reference": reference.as_input(),
        },
        params={
            "format": job.recipe.format,
            "task": job.source.task,
            "threads": 1,
            "evaluation_texts": list(texts.evaluation),
            **params,
        },
        toolchain=artifact.engine_toolchain,
        estimate_bytes=job.source.weight_bytes * 2 + (1 << 29),
    )


def _benchmark(job: Job, artifact: Artifact, reference: StageResult) -> StageSpec:
    return StageSpec(
        name="benchmark",
        call="edgeward.compiler.measured:benchmark",
        version=6,
        inputs={"model": artifact.model, **_timed_inputs(artifact, reference)},
        params={**_timed_params(job), **_parts(artifact)},
        toolchain=artifact.engine_toolchain,
    )


def race(proved: Sequence[Proved], stages: Stages) -> dict[str, float]:
    """Return each artifact's time over the first one's, by precision, called in turn."""
    if len(proved) < 2:
        return {one.job.recipe.precision: 1.0 for one in proved}
    first = proved[0]
    models = {one.job.recipe.precision: one.artifact.model for one in proved}
    result = stages.run(
        StageSpec(
            name="race",
            call="edgeward.compiler.measured:race",
            version=2,
            inputs={**models, **_timed_inputs(first.artifact, first.reference)},
            params={
                **_timed_params(first.job),
                **_parts(first.artifact),
                "precisions": list(models),
            },
            toolchain=first.artifact.engine_toolchain,
            estimate_bytes=first.job.source.weight_bytes * 2 * len(models) + (1 << 29),
        )
    )
    ratios = result.data["ratios"]
    if not isinstance(ratios, dict):
        raise ProofError("The race gave no figures", why=str(ratios)[:200])
    return {name: float(str(ratio)) for name, ratio in ratios.items()}


def _parts(artifact: Artifact) -> dict[str, JSON]:
    """What an engine is opened with beside the artifact's file."""
    parts: dict[str, JSON] = {"parts": list(artifact.parts)} if artifact.parts else {}
    if artifact.engine_module is not None:
        parts["engine_module"] = artifact.engine_module
    return {**parts, "shapes": dict(artifact.shapes)} if artifact.shapes else parts


def _sizes(job: Job) -> dict[str, JSON]:
    """The original gets what the artifact can read, no longer text or sound."""
    sizes = {axis: list(sizes) for axis, sizes in job.shapes.axes}
    return {"sizes": {**sizes}} if sizes else {}


def _timed_inputs(artifact: Artifact, reference: StageResult) -> dict[str, StageInput]:
    assets = artifact.results[0].as_input("assets")
    return {"assets": assets, "reference": reference.as_input()}


def _timed_params(job: Job) -> dict[str, JSON]:
    return {
        "format": job.recipe.format,
        "task": job.source.task,
        "threads": 1,
        "text": _BENCHMARK_TEXT,
    }
