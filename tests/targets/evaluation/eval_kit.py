"""Outcomes made by hand, and the command as a user types it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typed import Done, typed

from edgeward.targets.evaluation.cases import Case, Outcome
from edgeward.targets.evaluation.metrics.registry import make_metric


def outcomes(kind: str, pairs: Sequence[tuple[Any, Any]], **more: Sequence[Any]) -> list[Outcome]:
    """Outcomes of (wanted, found) pairs."""
    told = []
    for number, (wanted, found) in enumerate(pairs):
        extra = {name: values[number] for name, values in more.items()}
        told.append(Outcome(Case(number + 1, {}, wanted), {kind: found, **extra}))
    return told


def value(name: str, kind: str, pairs: Sequence[tuple[Any, Any]], **more: Sequence[Any]) -> float:
    """A metric's value of (wanted, found) pairs."""
    metric = make_metric(name, kind)
    return metric.value(metric.scores(outcomes(kind, pairs, **more)).rows)


def edgeward_eval(*arguments: object, **environment: str) -> Done:
    """Run `edgeward eval`."""
    return typed("eval", *arguments, **environment)


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
