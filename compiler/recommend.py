"""`edgeward recommend`: of the recipes that a device could run, the best by one objective.

The plan leaves a few that fit and look best; these are compiled, proved and measured. Accuracy is
measured whatever the device. Latency, memory and energy are the device's: where this machine is
one, they are measured, else they are what the plan predicts for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from edgeward.errors import DoesNotFitError, EdgewardError, UnsupportedError, UsageError
from edgeward.runtimes.bundle.manifest import Tried
from edgeward.targets.load import load as load_profile
from edgeward.targets.match import match
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.predict import Prediction, plan_model
from edgeward.targets.plan.read import read_facts
from edgeward.targets.probe import probe
from edgeward.targets.profile import Profile, Recipe

from .architectures import Coverage
from .budget import Budget
from .compile import Compiled
from .dequantise import dequantised
from .foresight import figures_of
from .formats.base import Job
from .formats.gguf_types import FORMAT as GGUF
from .formats.gguf_types import MIXED
from .formats.registry import format_module
from .jobs import coverage_of, given_of, recipes_of
from .package import Proved, bundle_name, package
from .pareto import Point, front
from .progress import NullReporter
from .prove import prove
from .request import CompileRequest, model_name
from .source import Source, open_source
from .stages import StageRunner
from .texts import ProofTexts, proof_texts

OBJECTIVES = ("latency", "memory", "accuracy", "energy")
MOST = 4
_UNITS = {"latency": "ms", "memory": "MB", "accuracy": "", "energy": "mJ"}
# Predictions closer than this tell nothing apart.
_SAME = 1.03
# What tells best how far an artifact is from the original: less is better.
_LOSSES: tuple[tuple[str, Callable[[float], float]], ...] = (
    ("eval_kl_mean", lambda value: value),
    ("eval_cosine_mean", lambda value: 1 - value),
    ("eval_top1_agreement", lambda value: 1 - value),
    ("eval_relative_difference", lambda value: value),
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe that fits the device, and what the plan predicts of it there."""

    job: Job
    predicted: Prediction

    @property
    def name(self) -> str:
        """Format and precision."""
        return f"{self.job.recipe.format} {self.job.recipe.precision}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A candidate that was compiled; `reason` says why it is not taken, empty where it may be.

    `cost` is in the objective's unit, `loss` what its accuracy lost, infinite where nobody knows.
    """

    candidate: Candidate
    proved: Proved | None = None
    reason: str = ""
    cost: float = math.inf
    loss: float = math.inf

    @property
    def point(self) -> Point:
        """Its place among the others."""
        return Point(self.candidate.name, self.cost, self.loss)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The winner as a bundle, what else was tried, and what the plan left out."""

    compiled: Compiled
    winner: Outcome
    outcomes: Sequence[Outcome]
    left_out: Mapping[str, str] = field(default_factory=dict)
    measured_here: bool = True

    @property
    def points(self) -> list[Point]:
        """What was measured, as points."""
        return [one.point for one in self.outcomes if math.isfinite(one.cost + one.loss)]

    @property
    def best(self) -> set[str]:
        """The names on the Pareto front."""
        return {point.name for point in front(self.points)}


def check_objective(objective: str, profile: Profile) -> None:
    """Raise UsageError for an objective that is none, or that the device says nothing of."""
    if objective not in OBJECTIVES:
        raise UsageError(f"Unknown objective {objective!r}", why=f"known: {', '.join(OBJECTIVES)}")
    if objective == "energy" and profile.hardware.watts is None:
        raise UsageError(
            f"{profile.name} names no power",
            why="energy is its watts times the time",
            next="edgeward recommend … --objective latency",
        )


def shortlist(
    request: CompileRequest, source: Source, objective: str
) -> tuple[list[Candidate], dict[str, str]]:
    """Return the recipes that fit the device, the most promising first, and why others do not.

    The first of each format comes before the second of any: a plan's errors differ by engine.
    """
    (target,) = request.targets
    profile = load_profile(target)
    check_objective(objective, profile)
    facts = read_facts(str(source.folder))
    fitting: list[Candidate] = []
    left_out: dict[str, str] = {}
    for job in recipes_of(request, source):
        name = f"{job.recipe.format} {job.recipe.precision}"
        try:
            predicted = _predicted(facts, profile, job, request.budget)
        except UnsupportedError as error:
            left_out[name] = error.what
            continue
        reason = predicted.reason or _over(predicted, request.budget)
        if reason:
            left_out[name] = reason
        else:
            fitting.append(Candidate(job, predicted))
    return _by_format(_thinned(fitting, objective, left_out)), left_out


def open_wanted(request: CompileRequest) -> Source:
    """Return the model's source as any format of the target takes it."""
    return open_source(
        request.model,
        revision=request.revision,
        task=request.task,
        coverages=[_coverage(request)],
    )


def recommend(
    request: CompileRequest,
    objective: str,
    runner: StageRunner,
    *,
    most: int = MOST,
    reporter: NullReporter | None = None,
) -> Recommendation:
    """Compile, prove and measure the most promising recipes and package the best one.

    `request.budget` bounds what may be taken; more than `most` are tried only while none keeps it.
    Raises DoesNotFitError where nothing fits the device or keeps the budget.
    """
    reporter = reporter if reporter is not None else NullReporter()
    source = _opened(request, runner)
    candidates, left_out = shortlist(request, source, objective)
    if not candidates:
        raise _nothing(request, left_out)
    here = match(load_profile(request.targets[0]), probe()).ok
    texts = proof_texts(given_of(request.evaluation, source))
    outcomes: list[Outcome] = []
    for candidate in candidates:
        if len(outcomes) >= most and any(not one.reason for one in outcomes):
            break
        outcomes.append(_tried(candidate, request, texts, runner, objective, here))
        reporter.note(f"recommend: {candidate.name}: {_words(outcomes[-1], objective)}")
    kept = [one for one in outcomes if not one.reason]
    if not kept:
        raise _nothing(request, {one.candidate.name: one.reason for one in outcomes} | left_out)
    winner = min(kept, key=lambda one: (one.cost, one.loss))
    return Recommendation(
        _packaged(request, source, winner, outcomes, texts, objective),
        winner,
        tuple(outcomes),
        left_out,
        here,
    )


def unit_of(objective: str) -> str:
    """The unit of an objective's cost, empty where that is what was lost."""
    return _UNITS[objective]


def _opened(request: CompileRequest, runner: StageRunner) -> Source:
    source = open_wanted(request)
    return source if source.packed is None else dequantised(source, [_coverage(request)], runner)


def _coverage(request: CompileRequest) -> Coverage:
    profile = load_profile(request.targets[0])
    formats = [request.format] if request.format else list(profile.formats)
    return coverage_of(filter(_is_known, formats))


def _is_known(format_name: str) -> bool:
    try:
        format_module(format_name)
    except UsageError:
        return False
    return True


def _predicted(facts: ModelFacts, profile: Profile, job: Job, budget: Budget | None) -> Prediction:
    """Predict a job; a mix of types is planned for as the preset of about its size."""
    mixed = (job.recipe.format, job.recipe.precision) == (GGUF, MIXED)
    precision = "q4_k_m" if mixed else job.recipe.precision
    context = budget.context if budget is not None and facts.writes_text else None
    return plan_model(facts, profile, Recipe(job.recipe.format, precision), context)


def _over(predicted: Prediction, budget: Budget | None) -> str:
    if budget is None:
        return ""
    for name, limit, value in (
        ("memory", budget.memory_bytes, predicted.memory.total),
        ("size", budget.size_bytes, predicted.disk_bytes),
    ):
        if limit is not None and value > limit:
            return f"{name}: about {value / 1e6:.0f} MB, the budget is {limit / 1e6:.0f} MB"
    return ""


def _promise(candidate: Candidate, objective: str) -> float:
    """What is less looks better; of accuracy a plan knows only that more bytes lose less."""
    predicted = candidate.predicted
    if objective == "accuracy":
        return 1.0 / max(predicted.memory.weights, 1)
    if objective == "memory":
        return float(predicted.memory.total)
    return _seconds(predicted)


def _thinned(
    fitting: Sequence[Candidate], objective: str, left_out: dict[str, str]
) -> list[Candidate]:
    """Return the most promising first; of those that promise about the same, the largest alone.

    It loses least, so the others have nothing to offer.
    """
    kept: list[Candidate] = []
    for one in sorted(fitting, key=lambda each: -each.predicted.memory.weights):
        promise = _promise(one, objective)
        rival = next(
            (
                other
                for other in kept
                if other.job.recipe.format == one.job.recipe.format
                and _promise(other, objective) <= promise * _SAME
            ),
            None,
        )
        if rival is None:
            kept.append(one)
        else:
            left_out[one.name] = f"not tried: {rival.name} promises as much and keeps more"
    return sorted(kept, key=lambda each: _promise(each, objective))


def _seconds(predicted: Prediction) -> float:
    """The time of a token, or of a whole input where nothing is written."""
    return predicted.tpot_s or predicted.ttft_s or math.inf


def _by_format(candidates: Sequence[Candidate]) -> list[Candidate]:
    first = {one.job.recipe.format: one for one in reversed(candidates)}
    leading = [one for one in candidates if first[one.job.recipe.format] is one]
    return [*leading, *(one for one in candidates if one not in leading)]


def _tried(
    candidate: Candidate,
    request: CompileRequest,
    texts: ProofTexts,
    runner: StageRunner,
    objective: str,
    here: bool,
) -> Outcome:
    try:
        proved = prove(candidate.job, texts, runner)
    except (UnsupportedError, UsageError) as error:
        return Outcome(candidate, reason=error.what)
    figures = {**proved.metrics, **proved.measured}
    loss = _loss(figures)
    cost = loss if objective == "accuracy" else _cost(candidate, figures, objective, here)
    limits = request.budget.missed(figures) if request.budget is not None else []
    short = [check.shortfall for check in chain(proved.failures, limits)]
    return Outcome(candidate, proved, ", ".join(short), cost, loss)


def _loss(figures: Mapping[str, float]) -> float:
    for name, loss in _LOSSES:
        if name in figures:
            return max(loss(figures[name]), 0.0)
    return math.inf


def _cost(candidate: Candidate, figures: Mapping[str, float], objective: str, here: bool) -> float:
    """What was measured here, else what the plan says: an evaluator has no device's times."""
    predicted, measured = candidate.predicted, figures if here else {}
    if objective == "memory":
        return measured.get("peak_memory_bytes", predicted.memory.total) / 1e6
    planned = _seconds(predicted) * 1e3
    milliseconds = measured.get("tpot_ms", measured.get("latency_p50_ms", planned))
    if objective == "latency":
        return milliseconds
    return milliseconds * (candidate.job.profile.hardware.watts or math.inf)


def _words(outcome: Outcome, objective: str) -> str:
    said = f"{outcome.cost:.4g} {unit_of(objective)}".strip()
    lost = "" if objective == "accuracy" else f", lost {outcome.loss:.3g}"
    return f"{said}{lost}" + (f": {outcome.reason}" if outcome.reason else "")


def _packaged(
    request: CompileRequest,
    source: Source,
    winner: Outcome,
    outcomes: Sequence[Outcome],
    texts: ProofTexts,
    objective: str,
) -> Compiled:
    proved = winner.proved
    if proved is None:
        raise EdgewardError("The winner was not compiled")
    name = model_name(request, source)
    trail = list(_trail(outcomes, objective))
    destination = request.output / bundle_name(name, proved.job)
    predicted = figures_of(winner.candidate.predicted)
    bundle, cached = package(proved, name, texts, destination, trail, predicted)
    return Compiled(bundle, proved.job, proved.checks, cached)


def _trail(outcomes: Sequence[Outcome], objective: str) -> Iterator[Tried]:
    for one in outcomes:
        yield Tried(
            precision=one.candidate.name,
            passed=not one.reason,
            reason=f"{objective}: {_words(one, objective)}"[:4000],
        )


def _nothing(request: CompileRequest, left_out: Mapping[str, str]) -> DoesNotFitError:
    target = request.targets[0]
    words = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
    return DoesNotFitError(
        f"No recipe of {target} can be recommended",
        why=words[:1500] or f"{target} takes this model in no format",
        next=f"edgeward plan {request.model} --target {target} --all",
    )
