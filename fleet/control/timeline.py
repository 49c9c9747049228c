"""The words that a report puts on a rollout's timeline."""

from __future__ import annotations

from ..protocol.documents import GateFigure, Reported

MAX_FIGURES = 3


def said_by(reported: Reported) -> str:
    """Return why a device stands where it stands: its gate's figures, or its problem."""
    failed = [f for f in reported.gate.figures if not f.passed] if reported.gate else []
    if failed:
        return "gate: " + ", ".join(_figure(figure) for figure in failed[:MAX_FIGURES])
    if reported.problem:
        problem = reported.problem
        return problem.what + (f" ({problem.why})" if problem.why else "")
    return reported.state.value


def _figure(figure: GateFigure) -> str:
    sign = "<" if figure.direction == "at-least" else ">"
    return f"{figure.metric} {figure.value:.4g} {sign} {figure.bound:.4g}"
