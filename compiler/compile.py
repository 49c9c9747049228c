"""Compiling: a model, targets and precisions in, proved bundles out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeward.errors import ProofError, UnsupportedError, UsageError
from edgeward.runtimes.bundle.manifest import Check, Tried
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.finalize.ranges import parse_ranges
from edgeward.runtimes.tasks.labels import read_config, read_labels
from edgeward.targets.load import load as load_profile
from edgeward.targets.profile import Profile

from .architectures import Coverage
from .budget import Budget, Limit
from .cache_dir import cache_root
from .dequantise import dequantised
from .fit import fit
from .formats.base import Job
from .formats.gguf_types import FORMAT as GGUF
from .formats.gguf_types import MIXED
from .formats.registry import format_module
from .given import check_labels, read_given
from .given_data import GivenData
from .given_stage import given_stage
from .limits import Limits
from .package import Proved, bundle_name, check_place, package
from .progress import NullReporter
from .prove import prove
from .recipe import RECIPES, recipe_for
from .search import search
from .shapes import Sizes, parse_shapes, shapes_for
from .source import Source, open_source
from .stages import StageRunner
from .tasks import task_spec
from .texts import ProofTexts, joined, packaged_calibration, proof_texts
from .timing import timed_stage
from .toolchains.manager import Toolchains

DEFAULT_PRECISION = "default"
AUTO_PRECISION = "auto"
_EXACT = "fp32"
# What a GGUF may lose, in nats, where nobody says.
_AUTO_DIVERGENCE = 0.05
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """What to compile; `default` is the target's own precision, `auto` its fastest that passes."""

    model: str
    targets: tuple[str, ...]
    output: Path
    precisions: tuple[str, ...] = (DEFAULT_PRECISION,)
    format: str | None = None
    name: str | None = None
    revision: str | None = None
    task: str | None = None
    evaluation: Path | None = None
    calibration: Path | None = None
    accept_degraded: bool = False
    portable: bool = False
    shapes: str | None = None
    engine: str | None = None
    ranges: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    budget: Budget | None = None
    limits: Limits = field(default_factory=Limits)
    torch_build: str | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
    """A bundle that was made, or found made."""

    bundle: Bundle
    job: Job
    checks: tuple[Check, ...]
    cached: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """One bundle to make: of its only job, or of the one that a search picks."""

    jobs: tuple[Job, ...]
    searched: bool = False
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one target and one precision of a request ask for."""

    source: Source
    profile: Profile
    precision: str
    format: str | None
    calibration: tuple[str, ...]
    portable: bool
    shapes: Mapping[str, Sizes] | None
    engine: str | None
    ranges: tuple[str, ...]
    given: GivenData | None = None
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    budget: Budget | None = None

    @property
    def chosen_format(self) -> str:
        """The format asked for, else the target's own."""
        return self.format or self.profile.default.format


def plan_bundles(request: CompileRequest) -> tuple[Source, list[Plan]]:
    """Check everything that can be checked before work begins, and return what is to be made.

    A source that is to be dequantised is planned for as what its configuration says it will be.
    """
    source = open_source(
        request.model,
        revision=request.revision,
        task=request.task,
        coverages=_coverages(request),
    )
    return source, _plans(request, source)


def _coverages(request: CompileRequest) -> list[Coverage]:
    """What the wanted formats take."""
    profiles = [load_profile(name) for name in dict.fromkeys(request.targets)]
    formats = dict.fromkeys(request.format or profile.default.format for profile in profiles)
    return [format_module(name).coverage() for name in formats]


def _plans(request: CompileRequest, source: Source) -> list[Plan]:
    shapes = parse_shapes(request.shapes) if request.shapes is not None else None
    profiles = [load_profile(name) for name in dict.fromkeys(request.targets)]
    given = _given(request.calibration, source)
    calibration = joined(given.texts) if given and given.texts else packaged_calibration()
    _given(request.evaluation, source)
    parse_ranges(",".join(request.ranges))
    built = (shapes, request.engine, request.ranges)
    asked = (
        request.format,
        calibration,
        request.portable,
        *built,
        given,
        request.options,
        request.budget,
    )
    plans = [
        _plan(Wanted(source, profile, precision, *asked))
        for profile in profiles
        for precision in request.precisions
    ]
    unique = {
        (plan.jobs[0].profile.name, plan.searched or plan.jobs[0].recipe.precision): plan
        for plan in plans
    }
    name = model_name(request, source)
    for plan in unique.values():
        for job in plan.jobs:
            check_place(request.output / bundle_name(name, job))
    return list(unique.values())


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
        source, plans = plan_bundles(request)
        said(
            f"{source.architecture}, {source.weight_bytes / 2**20:.1f} MiB of weights, "
            f"sha256 {source.weights_sha256[:8]}…"
        )
    name, texts = model_name(request, source), proof_texts(_given(request.evaluation, source))
    lent = nullcontext(runner) if runner is not None else stage_runner(request, reporter)
    with lent as stages:
        if source.packed is not None:
            plans = _plans(request, dequantised(source, _coverages(request), stages))
        _keep_given(plans, texts, stages)
        for plan in plans:
            proved, trail = _proved(plan, texts, stages, reporter)
            refuse_failure(proved, request)
            destination = request.output / bundle_name(name, proved.job)
            with timed_stage(reporter, "package") as said:
                bundle, cached = package(proved, name, texts, destination, trail)
                size = bundle.manifest.size / 2**20
                said(f"{destination}  {size:.1f} MiB  bundle {bundle.digest[:8]}…")
            yield Compiled(bundle, proved.job, proved.checks, cached)


def _given(path: Path | None, source: Source) -> GivenData | None:
    """Read what was given for the source's task, labels checked; None where nothing was."""
    if path is None:
        return None
    spec = task_spec(source.task)
    given = read_given(path, spec)
    check_labels(given, spec, read_labels(read_config(source.folder)))
    return given


def _keep_given(plans: Sequence[Plan], texts: ProofTexts, stages: StageRunner) -> None:
    """Read every file that was given, before what takes long."""
    for plan in plans:
        job = plan.jobs[0]
        toolchain = format_module(job.recipe.format).toolchain()
        for given in (job.given, texts.given):
            spec = given_stage(given, toolchain)
            if spec is not None:
                stages.run(spec)


def _plan(wanted: Wanted) -> Plan:
    if wanted.budget is not None:
        return _budgeted(wanted, wanted.budget)
    if wanted.precision != AUTO_PRECISION:
        return Plan((_job(wanted, wanted.precision),))
    profile, chosen = wanted.profile, wanted.chosen_format
    profile.check_recipe(chosen, _EXACT)
    if chosen == GGUF and task_spec(wanted.source.task).kind == "distributions":
        room = Budget(profile.hardware.usable_memory_bytes, limits=(Limit("kl", _AUTO_DIVERGENCE),))
        return _budgeted(replace(wanted, format=GGUF), room)
    others = [name for name in profile.formats[chosen] if name != _EXACT]
    names = [name for name in (_EXACT, *others) if (chosen, name) in RECIPES]
    jobs = [job for job in (_unchecked_job(wanted, name) for name in names) if _allowed(job)]
    _check(jobs[0])
    return Plan((jobs[0], *(job for job in jobs[1:] if _takes(job))), searched=True)


def _budgeted(wanted: Wanted, budget: Budget) -> Plan:
    """Every recipe of the target's that the budget could be kept with, whatever its format."""
    if wanted.precision != AUTO_PRECISION:
        raise UsageError(
            "A budget needs a precision to be looked for",
            why=f"{wanted.precision} takes what it takes",
            next="edgeward compile … --precision auto --budget …",
        )
    profile = wanted.profile
    formats = [wanted.format] if wanted.format else list(profile.formats)
    jobs = [
        _unchecked_job(replace(wanted, format=name), precision)
        for name in formats
        for precision in profile.formats.get(name, ())
        if (name, precision) in RECIPES and (name != GGUF or precision == MIXED)
    ]
    taken = [job for job in jobs if _allowed(job) and _takes(job)]
    if not taken:
        profile.check_recipe(wanted.chosen_format, _EXACT)
        raise UnsupportedError(f"{profile.name} has no precisions to choose among")
    return Plan(tuple(taken), searched=True, budget=budget)


def _takes(job: Job) -> bool:
    """Whether the job's format takes this model and this budget's options."""
    module = format_module(job.recipe.format)
    source = job.source
    if not module.coverage().takes(source.task, source.model_type, source.architecture):
        return False
    try:
        module.check(job)
    except (UnsupportedError, UsageError):
        return False
    return True


def _proved(
    plan: Plan, texts: ProofTexts, stages: StageRunner, reporter: NullReporter
) -> tuple[Proved, list[Tried]]:
    if not plan.searched:
        return prove(plan.jobs[0], texts, stages), []
    if plan.budget is not None:
        return fit(plan.jobs, plan.budget, texts, stages, reporter)
    return search(plan.jobs, texts, stages, reporter)


def _job(wanted: Wanted, precision: str) -> Job:
    profile = wanted.profile
    if precision == DEFAULT_PRECISION:
        precision = profile.default.precision
    job = _unchecked_job(wanted, precision)
    profile.check_recipe(wanted.chosen_format, precision)
    profile.check_engine(wanted.engine)
    if not _allowed(job):
        raise UnsupportedError(
            f"{precision} cannot be portable",
            why=f"it has operators that only one engine of {wanted.chosen_format} runs",
            next=f"edgeward compile … --portable --precision {_EXACT}",
        )
    _check(job)
    return job


def _check(job: Job) -> None:
    """Refuse what the format cannot do, and what only another understands: it would be lost."""
    module = format_module(job.recipe.format)
    unknown = [f"--{name}" for name in job.options if name not in module.OPTIONS]
    if unknown:
        listed = ", ".join(f"--{name}" for name in sorted(module.OPTIONS)) or "none of its own"
        raise UsageError(
            f"{job.recipe.format} has no option {', '.join(unknown)}", why=f"it has: {listed}"
        )
    module.check(job)


def _unchecked_job(wanted: Wanted, precision: str) -> Job:
    recipe = recipe_for(wanted.chosen_format, precision)
    source, profile = wanted.source, wanted.profile
    shapes = shapes_for(source, profile, recipe.format, wanted.shapes)
    return Job(
        source,
        profile,
        recipe,
        wanted.calibration,
        wanted.portable,
        shapes,
        wanted.engine,
        wanted.ranges,
        wanted.given,
        wanted.options,
    )


def _allowed(job: Job) -> bool:
    """Whether it is as portable as it was asked to be."""
    if not job.portable:
        return True
    return bool(format_module(job.recipe.format).engine_options(job).get("portable", True))


def refuse_failure(proved: Proved, request: CompileRequest) -> None:
    """Raise ProofError where a proof fell short and `accept_degraded` was not asked for."""
    if not proved.failures or request.accept_degraded:
        return
    job = proved.job
    short = ", ".join(check.shortfall for check in proved.failures)
    again = f"edgeward compile {request.model} --target {job.profile.name}"
    exact = "" if job.recipe.precision == _EXACT else f"--precision {_EXACT}, or "
    raise ProofError(
        f"proof failed for {job.recipe.precision} on {job.profile.name}: {short}",
        why="; ".join(proved.artifact.findings)
        or "the artifact departs from the float32 original by more than its recipe allows",
        next=f"{again} {exact}--accept-degraded (recorded in the manifest)",
    )


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
