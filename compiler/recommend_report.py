"""A recommendation as rows, words and a picture."""

from __future__ import annotations

import math

from .pareto import pareto_picture
from .recommend import Recommendation, open_wanted, shortlist, unit_of
from .request import CompileRequest

CANDIDATE_COLUMNS = ["recipe", "engine", "memory_mb", "first_ms", "token_ms", "verdict"]
OUTCOME_COLUMNS = ["recipe", "cost", "unit", "lost", "mib", "best", "verdict", "path"]


def candidate_rows(request: CompileRequest, objective: str) -> list[dict[str, object]]:
    """Return what would be tried, in that order, then what the plan leaves out and why."""
    fitting, left_out = shortlist(request, open_wanted(request), objective)
    rows: list[dict[str, object]] = []
    for one in fitting:
        predicted = one.predicted
        rows.append(
            {
                "recipe": one.name,
                "engine": predicted.engine,
                "memory_mb": round(predicted.memory.total / 1e6, 1),
                "first_ms": _milliseconds(predicted.ttft_s),
                "token_ms": _milliseconds(predicted.tpot_s),
                "verdict": "fits",
            }
        )
    return rows + [{"recipe": name, "verdict": reason} for name, reason in left_out.items()]


def outcome_rows(found: Recommendation, objective: str) -> list[dict[str, object]]:
    """Return what was compiled, the winner with its bundle's path, then what was left out."""
    rows: list[dict[str, object]] = []
    for one in found.outcomes:
        taken = one is found.winner
        size = one.proved.artifact.model.path.stat().st_size if one.proved is not None else None
        rows.append(
            {
                "recipe": one.candidate.name,
                "cost": _rounded(one.cost),
                "unit": unit_of(objective),
                "lost": _rounded(one.loss),
                "mib": round(size / 2**20, 1) if size is not None else None,
                "best": one.candidate.name in found.best,
                "verdict": "recommended" if taken else one.reason or "keeps the budget",
                "path": str(found.compiled.bundle.path) if taken else None,
            }
        )
    return rows + [{"recipe": name, "verdict": reason} for name, reason in found.left_out.items()]


def said(found: Recommendation, objective: str) -> str:
    """Say what wins, and whether its figure was measured or predicted."""
    where = "measured here" if found.measured_here else "as the plan predicts it there"
    if objective == "accuracy":
        where = "measured"
    return f"{found.winner.candidate.name}: best {objective}, {where}"


def picture_of(found: Recommendation, objective: str, model: str) -> str:
    """Return the outcomes as an SVG: cost and loss, the Pareto front, the winner marked."""
    title = f"{model.rstrip('/').rpartition('/')[2]}: {objective} and what is lost"
    cost = f"{objective} {unit_of(objective)}".strip()
    name = found.winner.candidate.name
    return pareto_picture(title, found.points, cost, "what is lost", name)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 2)


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
