"""Compiling: a model, targets and precisions in, proved bundles out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from edgeward.errors import ProofError, UsageError
from edgeward.runtimes.bundle.manifest import Check
from edgeward.runtimes.bundle.read import Bundle
from edgeward.targets.load import load as load_profile
from edgeward.targets.profile import Profile

from .cache_dir import cache_root
from .formats.base import Artifact, Format, Job
from .formats.registry import format_module
from .limits import Limits
from .package import Proved, bundle_name, check_place, package
from .progress import NullReporter
from .recipe import recipe_for
from .source import Source, open_source
from .stages import StageInput, StageResult, StageRunner, StageSpec
from .tasks import task_spec
from .texts import ProofTexts, proof_texts
from .timing import timed_stage
from .tolerances import tolerances_of
from .toolchains.manager import Toolchains

DEFAULT_PRECISION = "default"
_EXACT = "fp32"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_BENCHMARK_TEXT = (
    "The ferry to the northern islands leaves from the second pier at a quarter past seven, "
    "so please be there in good time."
)


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """What to compile; a precision of `default` is the target's own."""

    model: str
    targets: tuple[str, ...]
    output: Path
    precisions: tuple[str, ...] = (DEFAULT_PRECISION,)
    format: str | None = None
    name: str | None = None
    revision: str | None = None
    task: str | None = None
    evaluation: Path | None = None
    accept_degraded: bool = False
    limits: Limits = field(default_factory=Limits)
    torch_build: str | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
    """A bundle that was made, or found made."""

    bundle: Bundle
    job: Job
    checks: tuple[Check, ...]
    cached: bool


def plan_jobs(request: CompileRequest) -> tuple[Source, list[Job]]:
    """Check everything that can be checked before work begins, and return the jobs."""
    profiles = [load_profile(name) for name in dict.fromkeys(request.targets)]
    source = open_source(request.model, revision=request.revision, task=request.task)
    jobs = [
        _job(source, profile, precision, request.format)
        for profile in profiles
        for precision in request.precisions
    ]
    unique = {(job.profile.name, job.recipe.precision): job for job in jobs}
    name = model_name(request, source)
    for job in unique.values():
        check_place(request.output / bundle_name(name, job))
    return source, list(unique.values())


def stage_runner(request: CompileRequest, reporter: NullReporter) -> StageRunner:
    """Return what runs a request's stages; a context manager."""
    toolchains = Toolchains(torch_build=request.torch_build)
    return StageRunner(toolchains, cache_root(), reporter, limits=request.limits, threads=1)


def compile_model(
    request: CompileRequest,
    reporter: NullReporter | None = None,
    runner: StageRunner | None = None,
) -> Iterator[Compiled]:
    """Compile every job of the request, giving each bundle as it is done.

    Who compiles several models passes one `runner` (see `stage_runner`), so that the converters'
    imports are paid once; it stays open.

    Raises ProofError where an artifact departs from the original by more than its recipe allows
    and `accept_degraded` was not asked for; bundles given before stay.
    """
    reporter = reporter if reporter is not None else NullReporter()
    with timed_stage(reporter, "source") as said:
        source, jobs = plan_jobs(request)
        said(
            f"{source.architecture}, {source.weight_bytes / 2**20:.1f} MiB of weights, "
            f"sha256 {source.weights_sha256[:8]}…"
        )
    name, texts = model_name(request, source), proof_texts(request.evaluation)
    lent = nullcontext(runner) if runner is not None else stage_runner(request, reporter)
    with lent as stages:
        for job in jobs:
            proved = _prove(job, texts, stages)
            refuse_failure(proved, request)
            destination = request.output / bundle_name(name, job)
            with timed_stage(reporter, "package") as said:
                bundle, cached = package(proved, name, texts, destination)
                size = bundle.manifest.size / 2**20
                said(f"{destination}  {size:.1f} MiB  bundle {bundle.digest[:8]}…")
            yield Compiled(bundle, job, proved.checks, cached)


def _job(source: Source, profile: Profile, precision: str, format_name: str | None) -> Job:
    chosen = format_name or profile.default.format
    if precision == DEFAULT_PRECISION:
        precision = profile.default.precision
    profile.check_recipe(chosen, precision)
    return Job(source, profile, recipe_for(chosen, precision))


def _prove(job: Job, texts: ProofTexts, runner: StageRunner) -> Proved:
    module = format_module(job.recipe.format)
    artifact = module.build(job, runner)
    reference = runner.run(_reference(job, texts, module))
    verify = runner.run(_verify(job, texts, artifact, reference))
    benchmark = runner.run(_benchmark(job, artifact, reference))
    metrics = verify.data["metrics"]
    if not isinstance(metrics, dict):
        raise ProofError("The proof gave no figures", why=str(metrics)[:200])
    bounds = tolerances_of(job)
    bounded = (*bounds.golden, *bounds.compile_only)
    checks = tuple(bound.check(float(str(metrics[bound.metric]))) for bound in bounded)
    options = module.engine_options(job)
    return Proved(job, artifact, options, reference, verify, benchmark, checks)


def _reference(job: Job, texts: ProofTexts, module: Format) -> StageSpec:
    source = job.source
    return StageSpec(
        name="reference",
        call=task_spec(source.task).reference,
        version=2,
        inputs={"source": StageInput(source.folder, source.digest)},
        params={
            "task": source.task,
            "golden_names": list(texts.golden),
            "golden_texts": list(texts.golden.values()),
            "evaluation_texts": list(texts.evaluation),
            "seed": 0,
        },
        toolchain=module.toolchain(),
        estimate_bytes=source.weight_bytes * 2 + (1 << 30),
    )


def _verify(job: Job, texts: ProofTexts, artifact: Artifact, reference: StageResult) -> StageSpec:
    return StageSpec(
        name="verify",
        call=task_spec(job.source.task).verify,
        version=3,
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
        },
        toolchain=artifact.engine_toolchain,
        estimate_bytes=job.source.weight_bytes * 2 + (1 << 29),
    )


def _benchmark(job: Job, artifact: Artifact, reference: StageResult) -> StageSpec:
    return StageSpec(
        name="benchmark",
        call=task_spec(job.source.task).benchmark,
        version=2,
        inputs={
            "model": artifact.model,
            "assets": artifact.results[0].as_input("assets"),
            "reference": reference.as_input(),
        },
        params={"format": job.recipe.format, "threads": 1, "text": _BENCHMARK_TEXT},
        toolchain=artifact.engine_toolchain,
    )


def refuse_failure(proved: Proved, request: CompileRequest) -> None:
    """Raise ProofError where a proof fell short and `accept_degraded` was not asked for."""
    if not proved.failures or request.accept_degraded:
        return
    job = proved.job
    short = ", ".join(_words(check) for check in proved.failures)
    again = f"edgeward compile {request.model} --target {job.profile.name}"
    exact = "" if job.recipe.precision == _EXACT else f"--precision {_EXACT}, or "
    raise ProofError(
        f"proof failed for {job.recipe.precision} on {job.profile.name}: {short}",
        why="the artifact departs from the float32 original by more than its recipe allows",
        next=f"{again} {exact}--accept-degraded (recorded in the manifest)",
    )


def _words(check: Check) -> str:
    side = "below" if check.direction == "at-least" else "above"
    return f"{check.metric} {check.value:.6g} is {side} {check.bound:g}"


def model_name(request: CompileRequest, source: Source) -> str:
    """Return the name that the bundles begin with; UsageError where it cannot name one."""
    name = request.name or source.id.rsplit("/", 1)[-1]
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a bundle",
            why="1 to 100 of letters, digits, dot, dash and underscore",
            next="edgeward compile … --name NAME",
        )
    return name
