"""The plan before the work: what a job would take on its target, and whether that holds it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgeward.errors import DoesNotFitError, EdgewardError
from edgeward.targets.plan.advise import every_plan
from edgeward.targets.plan.engines import cost_of
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.predict import Prediction
from edgeward.targets.plan.read import read_facts

from .formats.base import Job
from .jobs import Plan
from .progress import NullReporter
from .source import Source

_SHORTER = "context "


@dataclass(frozen=True, slots=True)
class Foresight:
    """Predicts the jobs of one model; none of a model that no plan reads."""

    facts: ModelFacts | None
    _rows: dict[str, list[Prediction]] = field(default_factory=dict, repr=False)

    def of(self, job: Job) -> Prediction | None:
        """Return what the plan says of a job, None where it knows nothing.

        Of several engines it is the job's own, else the first that holds it.
        """
        if self.facts is None:
            return None
        recipe = (job.recipe.format, job.recipe.precision)
        rows = [
            row
            for row in self._every(job, self.facts)
            if (row.format, row.precision) == recipe
            and self.facts.kind not in (cost_of(row.engine).unable or {})
        ]
        rows.sort(key=lambda row: (row.engine != job.engine, not row.fits))
        return rows[0] if rows else None

    def _every(self, job: Job, facts: ModelFacts) -> list[Prediction]:
        name = job.profile.name
        if name not in self._rows:
            self._rows[name] = every_plan(facts, [job.profile])
        return self._rows[name]


def foresee(source: Source) -> Foresight:
    """Read a source's configuration and headers, no weights; of a packed one what it will be."""
    folder = source.folder if source.packed is None else source.packed.folder
    try:
        return Foresight(read_facts(os.fspath(folder)))
    except EdgewardError:
        return Foresight(None)


def fitting(
    plans: Sequence[Plan], foresight: Foresight, model: str, reporter: NullReporter
) -> list[Plan]:
    """Return the plans without what their targets do not hold.

    A search goes on with what is left; one with a budget of its own weighs that itself. Raises
    DoesNotFitError where nothing of a plan is left.
    """
    return [_fitting(plan, foresight, model, reporter) for plan in plans]


def _fitting(plan: Plan, foresight: Foresight, model: str, reporter: NullReporter) -> Plan:
    if plan.budget is not None:
        return plan
    kept = []
    refused: list[Prediction] = []
    for job in plan.jobs:
        row = foresight.of(job)
        if row is None or row.fits:
            kept.append(job)
        elif shorter := _remedy(row, _SHORTER):
            reporter.note(f"plan: {row.precision} on {row.target}: {row.reason}; {shorter} fits")
            kept.append(job)
        else:
            refused.append(row)
    if not kept:
        raise _does_not_fit(refused[-1], model)
    for row in refused:
        reporter.note(f"plan: {row.precision} is not tried: it {row.reason}")
    return replace(plan, jobs=tuple(kept))


def figures_of(row: Prediction | None) -> dict[str, float]:
    """Return a prediction as the manifest has it: milliseconds and bytes, nothing of none."""
    if row is None:
        return {}
    figures: dict[str, float] = {
        "peak_memory_bytes": row.memory.total,
        "disk_bytes": row.disk_bytes,
        "context": row.context,
    }
    first = "latency_ms" if row.tpot_s is None else "ttft_ms"
    times = {first: row.ttft_s, "tpot_ms": row.tpot_s}
    return figures | {name: 1e3 * each for name, each in times.items() if each is not None}


def words(row: Prediction) -> str:
    """Return a prediction in a few words."""
    took = {"first": row.ttft_s, "each token": row.tpot_s}
    times = "".join(f", {name} {1e3 * each:.3g} ms" for name, each in took.items() if each)
    held = f"{row.memory.total / 2**20:.0f} of {row.usable_bytes / 2**20:.0f} MiB"
    return f"{row.target} {row.precision}: {held}{times}"


def _remedy(row: Prediction, kind: str) -> str:
    return next((each for each in row.remedies if each.startswith(kind)), "")


def _does_not_fit(row: Prediction, model: str) -> DoesNotFitError:
    again = f"edgeward compile {model} --target {row.target}"
    smaller = _remedy(row, "precision ").split()
    advice = f"{again} --format {smaller[1]} --precision {smaller[2]}, " if smaller else ""
    return DoesNotFitError(
        f"{row.model} as {row.format} {row.precision} does not fit {row.target}",
        why=f"the plan says that it {row.reason}",
        next=f"{advice}edgeward plan {model} --target {row.target} for its parts, "
        f"or {again} --ignore-plan",
    )
