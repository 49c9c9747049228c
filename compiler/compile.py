"""Compiling: a model, targets and precisions in, proved bundles out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from edgeward.errors import ProofError
from edgeward.runtimes.bundle.manifest import Check, Tried
from edgeward.runtimes.bundle.read import Bundle

from .cache_dir import cache_root
from .dequantise import dequantised
from .fit import fit
from .foresight import Foresight, figures_of, fitting, foresee, words
from .formats.base import Job
from .formats.registry import format_module
from .given_stage import given_stage
from .jobs import Plan, coverages_of, given_of, plans_of
from .package import Proved, bundle_name, package
from .progress import NullReporter
from .prove import prove
from .recipe import EXACT
from .request import CompileRequest, model_name
from .search import search
from .source import Source, open_source
from .stages import StageRunner
from .texts import ProofTexts, proof_texts
from .timing import timed_stage
from .toolchains.manager import Toolchains

__all__ = [
    "CompileRequest",
    "Compiled",
    "compile_model",
    "plan_bundles",
    "refuse_failure",
    "stage_runner",
]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A bundle that was made, or found made."""

    bundle: Bundle
    job: Job
    checks: tuple[Check, ...]
    cached: bool


def plan_bundles(
    request: CompileRequest, reporter: NullReporter | None = None
) -> tuple[Source, list[Plan]]:
    """Check everything that can be checked before work begins, and return what is to be made.

    A source that is to be dequantised is planned for as what its configuration says it will be.
    Raises DoesNotFitError for what a target does not hold by the plan.
    """
    reporter = reporter if reporter is not None else NullReporter()
    source = _opened(request)
    return source, _planned(request, source, foresee(source), reporter)


def _opened(request: CompileRequest) -> Source:
    return open_source(
        request.model,
        revision=request.revision,
        task=request.task,
        coverages=coverages_of(request),
    )


def _planned(
    request: CompileRequest, source: Source, foresight: Foresight, reporter: NullReporter
) -> list[Plan]:
    plans = plans_of(request, source)
    return plans if request.ignore_plan else fitting(plans, foresight, request.model, reporter)


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
        source = _opened(request)
        foresight = foresee(source)
        plans = _planned(request, source, foresight, reporter)
        said(
            f"{source.architecture}, {source.weight_bytes / 2**20:.1f} MiB of weights, "
            f"sha256 {source.weights_sha256[:8]}…"
        )
    for row in filter(None, (foresight.of(plan.jobs[0]) for plan in plans)):
        reporter.note(f"plan: {words(row)}")
    name, texts = model_name(request, source), proof_texts(given_of(request.evaluation, source))
    lent = nullcontext(runner) if runner is not None else stage_runner(request, reporter)
    with lent as stages:
        if source.packed is not None:
            source = dequantised(source, coverages_of(request), stages)
            foresight = foresee(source)
            plans = _planned(request, source, foresight, NullReporter())
        _keep_given(plans, texts, stages)
        for plan in plans:
            proved, trail = _proved(plan, texts, stages, reporter)
            refuse_failure(proved, request)
            destination = request.output / bundle_name(name, proved.job)
            with timed_stage(reporter, "package") as said:
                predicted = figures_of(foresight.of(proved.job))
                bundle, cached = package(proved, name, texts, destination, trail, predicted)
                size = bundle.manifest.size / 2**20
                said(f"{destination}  {size:.1f} MiB  bundle {bundle.digest[:8]}…")
            yield Compiled(bundle, proved.job, proved.checks, cached)


def _keep_given(plans: Sequence[Plan], texts: ProofTexts, stages: StageRunner) -> None:
    """Read every file that was given, before what takes long."""
    for plan in plans:
        job = plan.jobs[0]
        toolchain = format_module(job.recipe.format).toolchain()
        for given in (job.given, texts.given):
            spec = given_stage(given, toolchain)
            if spec is not None:
                stages.run(spec)


def _proved(
    plan: Plan, texts: ProofTexts, stages: StageRunner, reporter: NullReporter
) -> tuple[Proved, list[Tried]]:
    if not plan.searched:
        return prove(plan.jobs[0], texts, stages), []
    if plan.budget is not None:
        return fit(plan.jobs, plan.budget, texts, stages, reporter)
    return search(plan.jobs, texts, stages, reporter)


def refuse_failure(proved: Proved, request: CompileRequest) -> None:
    """Raise ProofError where a proof fell short and `accept_degraded` was not asked for."""
    if not proved.failures or request.accept_degraded:
        return
    job = proved.job
    short = ", ".join(check.shortfall for check in proved.failures)
    again = f"edgeward compile {request.model} --target {job.profile.name}"
    exact = "" if job.recipe.precision == EXACT else f"--precision {EXACT}, or "
    raise ProofError(
        f"proof failed for {job.recipe.precision} on {job.profile.name}: {short}",
        why="; ".join(proved.artifact.findings)
        or "the artifact departs from the float32 original by more than its recipe allows",
        next=f"{again} {exact}--accept-degraded (recorded in the manifest)",
    )
