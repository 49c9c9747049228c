"""A golden report in rows and in words."""

from __future__ import annotations

from pathlib import Path

from .golden import GoldenReport


def check_rows(name: str, report: GoldenReport) -> list[dict[str, object]]:
    """Return one row a check."""
    return [
        {
            "bundle": name,
            "metric": check.metric,
            "value": round(check.value, 6),
            "bound": f"{'>=' if check.direction == 'at-least' else '<='} {check.bound:g}",
            "passed": check.passed,
            "engine": f"{report.engine.name} {report.engine.version}",
        }
        for check in report.checks
    ]


def failure_words(path: Path, report: GoldenReport) -> str:
    """Return the checks that fell short as one sentence."""
    short = [check.shortfall for check in report.checks if not check.passed]
    return f"{path} failed its proof: " + ", ".join(short)
