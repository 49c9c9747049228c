"""Outcomes made by hand, and the command as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def edgeward_eval(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `edgeward eval`."""
    command = [sys.executable, "-m", "edgeward", "eval", *(str(one) for one in arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **environment},
    )


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
