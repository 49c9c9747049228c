"""One evaluation: data read and checked, bundles asked, metrics told, gates held."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.session import load

from . import compare
from .cases import LABEL, TEXT, Outcome, Settings, Work
from .checks import PREFIX, Check
from .gate import Gate, check_sides
from .judge import Judge, Verdict, judge_metric
from .kept import outcomes
from .metrics.base import Metric, Scores
from .metrics.registry import make_metric
from .table import Table, read_table
from .tasks.registry import open_work

JUDGE = "judge"


@dataclass(frozen=True, slots=True)
class Asked:
    """What an evaluation is asked for beside its bundles and data."""

    metrics: Sequence[str] = ()
    gates: Sequence[Gate] = ()
    checks: Sequence[Check] = ()
    judge: Judge | None = None
    settings: Settings = field(default_factory=lambda: Settings({}))
    limit: int | None = None
    predictions: Path | None = None
    resamples: int = 1000
    seed: int = 0
    threads: int = 0
    engine: str | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One value over all cases; None for what was not compared or has no gate.

    `other` is the second bundle's value.
    """

    name: str
    value: float
    cases: int
    better: str = ""
    interval: compare.Interval | None = None
    other: float | None = None
    difference: compare.Difference | None = None
    gate: Gate | None = None
    passed: bool | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of it."""

    bundle: Bundle
    against: Bundle | None
    table: Table
    kind: str
    cases: int
    figures: tuple[Figure, ...]
    confusion: Scores | None
    unjudged: int
    seconds: float

    @property
    def missed(self) -> tuple[Figure, ...]:
        """The figures on the wrong side of their gate."""
        return tuple(figure for figure in self.figures if figure.passed is False)


Progress = Callable[[str, int, int], None]


def evaluate(
    bundle: Path, data: Path, asked: Asked, against: Path | None, progress: Progress
) -> Evaluation:
    """Evaluate a bundle, and another beside it; `progress` hears what is done of how much.

    Raises UsageError where the data, a metric or a gate is wrong, before any inference.
    """
    began = time.perf_counter()
    first = open_bundle(bundle)
    second = None if against is None else open_bundle(against)
    if second is not None and second.manifest.task != first.manifest.task:
        raise UsageError(
            "The bundles are for different tasks",
            why=f"{first.manifest.task}, and {second.manifest.task} in {against}",
        )
    if second is not None:
        compare.check_library()
    table = read_table(data, asked.limit)
    work = open_work(first, table, asked.settings)
    unjudged: list[Outcome] = []
    metrics = _metrics(work, asked, unjudged)
    check_sides(asked.gates, {name: metric.better for name, metric in metrics.items()})
    sides = [_found(first, work, table, asked, progress, "")]
    if second is not None:
        sides.append(_found(second, work, table, asked, progress, ".against"))
    scores = {
        name: tuple(metric.scores(side) for side in sides) for name, metric in metrics.items()
    }
    drawn = compare.draws(len(work.cases), asked.resamples, asked.seed)
    figures = [
        figure
        for name, metric in metrics.items()
        for figure in _figures(name, metric, scores[name], drawn)
    ]
    confused = scores["confusion"][0] if "confusion" in scores else None
    return Evaluation(
        first,
        second,
        table,
        work.kind,
        len(work.cases),
        _gated(figures, asked.gates),
        confused,
        len(unjudged),
        time.perf_counter() - began,
    )


def _metrics(work: Work, asked: Asked, unjudged: list[Outcome]) -> dict[str, Metric]:
    """Everything that is told, made before anything runs; the gates' metrics are among it."""
    gated = [gate.metric.partition("[")[0] for gate in asked.gates]
    named = [name for name in gated if not name.startswith(PREFIX) and name != JUDGE]
    names = dict.fromkeys([*(asked.metrics or work.metrics), *named])
    if names and work.kind == TEXT and not all(case.wanted for case in work.cases):
        raise UsageError(f"{next(iter(names))} needs references", why="the data has none")
    if (asked.checks or asked.judge) and work.kind not in (TEXT, LABEL):
        raise UsageError("Checks and judges are for texts and classes")
    metrics = {name: make_metric(name, work.kind) for name in names}
    metrics |= {check.name: check.metric for check in asked.checks}
    if asked.judge is not None:

        def heard(outcome: Outcome, verdict: Verdict) -> None:
            if not verdict.score:
                unjudged.append(outcome)

        metrics[JUDGE] = judge_metric(asked.judge, heard)
    if not metrics:
        raise UsageError(
            "There is nothing to tell of these answers",
            why="the data has no references and no labels",
            next="edgeward eval … --check RULE=VALUE, or --judge URL",
        )
    unknown = [gate.metric for gate in asked.gates if _base(gate.metric, metrics) is None]
    if unknown:
        raise UsageError(f"A gate names {unknown[0]!r}, which is not told")
    return metrics


def _base(name: str, metrics: Mapping[str, Metric]) -> str | None:
    base = name.partition("[")[0]
    return base if base in metrics else None


def _found(
    bundle: Bundle, work: Work, table: Table, asked: Asked, progress: Progress, suffix: str
) -> list[Outcome]:
    settings = asked.settings
    identity: dict[str, Any] = {
        "bundle": bundle.digest,
        "data": table.sha256,
        "columns": dict(settings.columns),
        "max_tokens": settings.max_tokens,
        "system": settings.system,
        "raw": settings.raw,
        "language": settings.language,
        "prompt": settings.prompt,
        "window": settings.window,
    }
    kept = asked.predictions
    if kept is not None and suffix:
        kept = kept.with_name(f"{kept.stem}{suffix}{kept.suffix}")
    name = bundle.path.absolute().name

    def said(done: int) -> None:
        progress(name, done, len(work.cases))

    return outcomes(
        work,
        lambda: load(bundle, threads=asked.threads, engine=asked.engine),
        kept,
        identity,
        said,
    )


def _figures(
    name: str, metric: Metric, scores: tuple[Scores, ...], drawn: NDArray[np.int64]
) -> list[Figure]:
    rows = [side.rows for side in scores]
    values = [compare.resampled(metric, one, drawn) for one in rows]
    sure = compare.interval(values[0]) if len(drawn) else None
    compared = len(rows) == 2
    figure = Figure(
        name,
        metric.value(rows[0]),
        len(rows[0]),
        metric.better,
        sure,
        metric.value(rows[1]) if compared else None,
        compare.difference(metric, (rows[0], rows[1]), (values[0], values[1]))
        if compared
        else None,
        note=metric.note,
    )
    if name == "confusion":
        return [figure]
    others = metric.parts(scores[1]) if compared else {}
    parts = [
        Figure(
            f"{name}[{part}]",
            value,
            len(rows[0]),
            metric.better,
            other=others.get(part),
        )
        for part, value in metric.parts(scores[0]).items()
    ]
    return [figure, *parts]


def _gated(figures: Sequence[Figure], gates: Sequence[Gate]) -> tuple[Figure, ...]:
    """Figures with their gates; a figure with two stands there twice."""
    told: list[Figure] = []
    for figure in figures:
        own = [gate for gate in gates if gate.metric == figure.name]
        if not own:
            told.append(figure)
        told += [replace(figure, gate=gate, passed=gate.passes(figure.value)) for gate in own]
    missing = {gate.metric for gate in gates} - {figure.name for figure in figures}
    if missing:
        raise UsageError(f"A gate names {min(missing)!r}, which the data does not have")
    return tuple(told)
