"""`--precision auto` within a budget: the format and the types that keep it and lose least.

A GGUF file of mixed types can have any size: where the divergence is bounded, the smallest one that
keeps it is looked for, by what each tensor's rounding is thought to cost, corrected by what was
measured; where memory alone is, the largest that fits. Other formats' recipes compete with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgeward.errors import DoesNotFitError, UnsupportedError, UsageError
from edgeward.runtimes.bundle.manifest import Tried
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.precision import weights_of
from edgeward.targets.plan.predict import needed_bytes
from edgeward.targets.plan.read import read_facts

from .budget import Budget
from .formats.base import Job, Stages
from .formats.gguf import prepare
from .formats.gguf_choice import Offer, choose, largest, size_for, smallest
from .formats.gguf_mixed import made_fast, offers_of
from .formats.gguf_options import SIZE, TYPES
from .formats.gguf_types import FORMAT, MIXED
from .package import Proved
from .progress import NullReporter
from .prove import prove
from .texts import ProofTexts

ROUNDS = 5
_CLOSE, _AIM = 0.02, 0.95
# Of a bundle, beside its weights: tokenizer, configuration, golden inputs.
_BESIDE = 8 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """An artifact that was proved, the bytes of its weights, and those of all memory it takes."""

    proved: Proved
    size: int
    memory: int

    @property
    def divergence(self) -> float:
        """How far it is from the original, in nats."""
        return self.proved.metrics.get("eval_kl_mean", 0.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether an attempt kept the budget, and how far it was from the original, in nats."""

    kept: bool
    divergence: float = 0.0


@dataclass(frozen=True, slots=True)
class Room:
    """How many bytes the weights of a format may have."""

    budget: Budget
    facts: ModelFacts

    def beside(self, job: Job) -> int:
        """Return what is in memory beside the weights: cache, activations, engine."""
        format_name, precision = job.recipe.format, _planned(job)
        needed = needed_bytes(self.facts, format_name, precision, self.budget.context)
        return needed - weights_of(self.facts, format_name, precision).stored

    def weights(self, job: Job) -> int | None:
        """Return the most bytes of weights, None where nothing bounds them."""
        memory, size = self.budget.memory_bytes, self.budget.size_bytes
        limits = [] if memory is None else [memory - self.beside(job)]
        return min([*limits, *([] if size is None else [size - _BESIDE])], default=None)


def fit(
    jobs: Sequence[Job],
    budget: Budget,
    texts: ProofTexts,
    stages: Stages,
    reporter: NullReporter,
) -> tuple[Proved, list[Tried]]:
    """Return the artifact that keeps the budget best, and the trail of what was tried.

    Best is the least memory where the divergence is bounded, else the least divergence. Raises
    DoesNotFitError where nothing keeps the budget.
    """
    room = Room(budget, read_facts(str(jobs[0].source.folder)))
    search = _Search(room, texts, stages)
    for job in jobs:
        if (job.recipe.format, job.recipe.precision) != (FORMAT, MIXED):
            continue
        search.mix(job)
        if budget.bounds_time and not job.options.get(TYPES):
            search.mix(made_fast(job))
    for job in sorted(jobs, key=lambda one: _planned_bytes(room, one)):
        if job.recipe.format != FORMAT:
            search.recipe(job)
    for tried in search.trail:
        reporter.note(f"auto: {tried.precision}: {tried.reason}")
    if not search.kept:
        raise _nothing(search, budget, jobs[0])
    return min(search.kept, key=search.rank).proved, search.trail


class MixedSizes:
    """Sizes of mixed files between the least and the most, narrowed by what each was found to lose.

    What a file loses is taken to be a line over what its rounding is thought to cost: the kernels
    round activations too, and the costs are only right for small errors.
    """

    def __init__(
        self, offers: Mapping[str, Sequence[Offer]], rest: int, least: int, most: int
    ) -> None:
        self._offers, self._rest = offers, rest
        self._low, self._high = least, most
        self._points: list[tuple[float, float]] = []
        self._kept = False

    def first(self, wanted: float) -> int:
        """Return the size to begin with."""
        return self._inside(size_for(self._offers, wanted * _AIM) + self._rest)

    def after(self, size: int, found: bool, measured: float, wanted: float) -> int | None:
        """Return the next size, None where another would tell little."""
        self._points.append((choose(self._offers, size - self._rest).cost, measured))
        if not found and size >= self._high:
            return None
        self._low, self._high = (self._low, size) if found else (size, self._high)
        self._kept = self._kept or found
        if self._high - self._low <= _CLOSE * self._high:
            return self._last()
        if len(self._points) == ROUNDS - 1:
            return self._last()
        told = self._inside(size_for(self._offers, self._cost_for(wanted * _AIM)) + self._rest)
        return told if self._low < told < self._high else (self._low + self._high) // 2

    def _last(self) -> int | None:
        """The largest, where nothing smaller has kept the bound."""
        return None if self._kept else self._high

    def _cost_for(self, wanted: float) -> float:
        """What rounding may be thought to cost so that so much is lost."""
        thought, measured = self._points[-1]
        slope, floor = measured / thought if thought > 0 else 0.0, 0.0
        if len(self._points) > 1:
            before, lost = self._points[-2]
            run = thought - before
            slope = (measured - lost) / run if run else slope
            floor = max(measured - slope * thought, 0.0)
        return max(wanted - floor, 0.0) / slope if slope > 0 else 0.0

    def _inside(self, size: int) -> int:
        return min(max(size, self._low), self._high)


class _Search:
    """What was tried so far."""

    def __init__(self, room: Room, texts: ProofTexts, stages: Stages) -> None:
        self._room, self._texts, self._stages = room, texts, stages
        self.kept: list[Found] = []
        self.trail: list[Tried] = []

    def rank(self, found: Found) -> tuple[float, float]:
        """What is less is better."""
        if self._room.budget.divergence is None:
            return found.divergence, found.memory
        return found.memory, found.divergence

    def mix(self, job: Job) -> None:
        """Try GGUF files of mixed types, each size told by those before."""
        offers, rest = offers_of(job, prepare(job, self._stages).rates.data)
        most = self._room.weights(job)
        least, top = smallest(offers) + rest, largest(offers) + rest
        most = top if most is None else min(most, top)
        if most < least:
            self._note(MIXED, f"{_mb(least)} is the least, the budget leaves {_mb(most)}")
            return
        wanted = self._room.budget.divergence
        if wanted is None:
            self._try(_sized(job, most))
            return
        mixes = MixedSizes(offers, rest, least, most)
        size: int | None = mixes.first(wanted)
        for _ in range(ROUNDS):
            if size is None:
                return
            outcome = self._try(_sized(job, size))
            size = mixes.after(size, outcome.kept, outcome.divergence, wanted)

    def recipe(self, job: Job) -> None:
        """Try a recipe that fits and could be better than what was found."""
        name = _name(job)
        most, size = self._room.weights(job), _planned_bytes(self._room, job)
        if most is not None and size > most:
            self._note(name, f"about {_mb(size)} of weights, the budget leaves {_mb(most)}")
            return
        best = min((found.memory for found in self.kept), default=None)
        bounded = self._room.budget.divergence is not None
        if bounded and best is not None and size + self._room.beside(job) >= best:
            self._note(name, "not tried: it takes more memory than what was found")
            return
        self._try(job)

    def _try(self, job: Job) -> Outcome:
        """Prove a job and say whether it keeps the budget."""
        name = _name(job)
        try:
            proved = prove(job, self._texts, self._stages)
        except (UnsupportedError, UsageError) as error:
            self._note(name, error.what)
            return Outcome(kept=False)
        size = proved.artifact.size_bytes
        found = Found(proved, size, size + self._room.beside(job))
        outcome = Outcome(kept=False, divergence=found.divergence)
        figures = {**proved.metrics, **proved.measured}
        missed = [*self._room.budget.missed(figures), *proved.failures]
        words = f"{_mb(size)}, KL {found.divergence:.4f}"
        if missed:
            self._note(name, f"{words}: {', '.join(check.shortfall for check in missed)}")
            return outcome
        most = self._room.weights(job)
        if most is not None and size > most:
            self._note(name, f"{words}: the budget leaves {_mb(most)}")
            return outcome
        self.kept.append(found)
        self.trail.append(Tried(precision=name, passed=True, reason=f"{words}: keeps the budget"))
        return replace(outcome, kept=True)

    def _note(self, name: str, reason: str) -> None:
        self.trail.append(Tried(precision=name, passed=False, reason=reason[:4000]))


def _name(job: Job) -> str:
    types = ",".join(job.options.get(TYPES, ()))
    return f"{job.recipe.format} {job.recipe.precision}" + (f" ({types})" if types else "")


def _sized(job: Job, size: int) -> Job:
    return replace(job, options={**job.options, SIZE: (f"{size} B",)})


def _planned(job: Job) -> str:
    """The plan knows nothing of mixed types: what is beside the weights is as with others."""
    return "q4_k_m" if job.recipe.precision == MIXED else job.recipe.precision


def _planned_bytes(room: Room, job: Job) -> int:
    return weights_of(room.facts, job.recipe.format, _planned(job)).stored


def _nothing(search: _Search, budget: Budget, job: Job) -> DoesNotFitError:
    words = "; ".join(f"{tried.precision}: {tried.reason}" for tried in search.trail)
    return DoesNotFitError(
        f"Nothing keeps the budget with {budget.context} tokens of context",
        why=words[:1500],
        next=f"edgeward plan {job.source.folder} --target {job.profile.name}, then a larger "
        "--budget or a shorter --context",
    )


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f} MB"
