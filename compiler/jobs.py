"""Which bundles a request comes to: a job each, or several that a search picks from.

Rules alone: profiles and what was given are read, no stage is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.finalize.ranges import parse_ranges
from edgeward.runtimes.tasks.labels import read_config, read_labels
from edgeward.targets.load import load as load_profile
from edgeward.targets.profile import Profile
from edgeward.targets.profile import Recipe as TargetRecipe

from .architectures import Coverage
from .budget import Budget, Limit
from .formats.base import Job
from .formats.gguf_types import FORMAT as GGUF
from .formats.gguf_types import MIXED
from .formats.registry import format_module
from .given import check_labels, read_given
from .given_data import GivenData
from .package import bundle_name, check_place
from .recipe import EXACT, RECIPES, recipe_for
from .request import AUTO_PRECISION, DEFAULT_PRECISION, CompileRequest, model_name
from .shapes import Sizes, parse_shapes, shapes_for
from .source import Source
from .tasks import task_spec
from .texts import joined, packaged_calibration

# What a GGUF may lose, in nats, where nobody says.
_AUTO_DIVERGENCE = 0.05


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
        """The format asked for, else the target's own for this model."""
        return self.format or self.own.format

    @property
    def own(self) -> TargetRecipe:
        """What the target takes this model in where nobody says."""
        taken = (one for one in self.profile.own_recipes if _covers(one.format, self.source))
        return next(taken, self.profile.default)

    @property
    def default_precision(self) -> str:
        """The target's own precision in the chosen format, else the one of its default."""
        own, chosen = self.profile.own_recipes, self.chosen_format
        return next((one.precision for one in own if one.format == chosen), self.own.precision)


def coverages_of(request: CompileRequest) -> list[Coverage]:
    """What each target takes in the wanted format, or in its own."""
    profiles = [load_profile(name) for name in dict.fromkeys(request.targets)]
    own = dict.fromkeys(_formats_of(request, profile) for profile in profiles)
    return [coverage_of(formats) for formats in own]


def _formats_of(request: CompileRequest, profile: Profile) -> tuple[str, ...]:
    if request.format:
        return (request.format,)
    return tuple(recipe.format for recipe in profile.own_recipes)


def coverage_of(formats: Iterable[str]) -> Coverage:
    """Return what any of the formats takes."""
    return reduce(Coverage.__or__, (format_module(name).coverage() for name in formats), Coverage())


def plans_of(request: CompileRequest, source: Source) -> list[Plan]:
    """Return what each target and precision comes to, without repetitions.

    Raises UsageError, UnsupportedError or a bundle's error for what cannot be made or written.
    """
    plans = [_plan(wanted) for wanted in _wanted(request, source)]
    unique = {
        (plan.jobs[0].profile.name, plan.searched or plan.jobs[0].recipe.precision): plan
        for plan in plans
    }
    name = model_name(request, source)
    for plan in unique.values():
        for job in plan.jobs:
            check_place(request.output / bundle_name(name, job))
    return list(unique.values())


def recipes_of(request: CompileRequest, source: Source) -> list[Job]:
    """Return a job for every recipe that the request's targets allow and that takes the model."""
    return [job for wanted in _wanted(request, source) for job in _every(wanted)]


def _wanted(request: CompileRequest, source: Source) -> Iterator[Wanted]:
    shapes = parse_shapes(request.shapes) if request.shapes is not None else None
    profiles = [load_profile(name) for name in dict.fromkeys(request.targets)]
    given = given_of(request.calibration, source)
    calibration = joined(given.texts) if given and given.texts else packaged_calibration()
    given_of(request.evaluation, source)
    parse_ranges(",".join(request.ranges))
    for profile in profiles:
        for precision in request.precisions:
            yield Wanted(
                source,
                profile,
                precision,
                request.format,
                calibration,
                request.portable,
                shapes,
                request.engine,
                request.ranges,
                given,
                request.options,
                request.budget,
            )


def given_of(path: Path | None, source: Source) -> GivenData | None:
    """Read what was given for the source's task, labels checked; None where nothing was."""
    if path is None:
        return None
    spec = task_spec(source.task)
    given = read_given(path, spec)
    check_labels(given, spec, read_labels(read_config(source.folder)))
    return given


def _plan(wanted: Wanted) -> Plan:
    if wanted.budget is not None:
        return _budgeted(wanted, wanted.budget)
    if wanted.precision != AUTO_PRECISION:
        return Plan((_job(wanted, wanted.precision),))
    profile, chosen = wanted.profile, wanted.chosen_format
    profile.check_recipe(chosen, EXACT)
    if chosen == GGUF and task_spec(wanted.source.task).kind == "distributions":
        room = Budget(profile.hardware.usable_memory_bytes, limits=(Limit("kl", _AUTO_DIVERGENCE),))
        return _budgeted(replace(wanted, format=GGUF), room)
    others = [name for name in profile.formats[chosen] if name != EXACT]
    names = [name for name in (EXACT, *others) if (chosen, name) in RECIPES]
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
    jobs = [job for job in _every(wanted) if job.recipe.format != GGUF or _is_mixed(job)]
    if not jobs:
        wanted.profile.check_recipe(wanted.chosen_format, EXACT)
        raise UnsupportedError(f"{wanted.profile.name} has no precisions to choose among")
    return Plan(tuple(jobs), searched=True, budget=budget)


def _is_mixed(job: Job) -> bool:
    return job.recipe.precision == MIXED


def _every(wanted: Wanted) -> Iterator[Job]:
    """Give a job for each of the target's recipes that takes the model."""
    formats = [wanted.format] if wanted.format else list(wanted.profile.formats)
    for name in formats:
        for precision in wanted.profile.formats.get(name, ()):
            if (name, precision) not in RECIPES:
                continue
            if not _covers(name, wanted.source):
                continue
            job = _unchecked_job(replace(wanted, format=name), precision)
            if _allowed(job) and _takes(job):
                yield job


def _covers(format_name: str, source: Source) -> bool:
    coverage = format_module(format_name).coverage()
    return coverage.takes(source.task, source.model_type, source.architecture)


def _takes(job: Job) -> bool:
    """Whether the job's format takes this model with these options."""
    try:
        format_module(job.recipe.format).check(job)
    except (UnsupportedError, UsageError):
        return False
    return True


def _job(wanted: Wanted, precision: str) -> Job:
    profile = wanted.profile
    if precision == DEFAULT_PRECISION:
        precision = wanted.default_precision
    job = _unchecked_job(wanted, precision)
    profile.check_recipe(wanted.chosen_format, precision)
    profile.check_engine(wanted.engine)
    if not _allowed(job):
        raise UnsupportedError(
            f"{precision} cannot be portable",
            why=f"it has operators that only one engine of {wanted.chosen_format} runs",
            next=f"edgeward compile … --portable --precision {EXACT}",
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
    recipe = recipe_for(wanted.chosen_format, precision, wanted.profile.formats)
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
