"""Texts with a gap to the token that fits it best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeward.runtimes.session import Session
from edgeward.targets.evaluation.cases import LABEL, Case, Found, Settings, Work
from edgeward.targets.evaluation.columns import Columns
from edgeward.targets.evaluation.table import Table


def work(_folder: Path, table: Table, settings: Settings) -> Work:
    """Return the cases of `text`, whose gap is `[MASK]`, and `label`, the token for it."""
    columns = Columns(table, settings.columns)
    text, label = columns.need("text"), columns.need("label")
    cases = tuple(
        Case(row.line, {"text": columns.text(row, text)}, columns.label(row, label))
        for row in table.rows
    )
    columns.problems.check()
    return Work(LABEL, ("accuracy",), cases, _run)


def _run(session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    for case in cases:
        (first,) = session.fill(case.given["text"], top_k=1)
        yield {LABEL: first.token.strip(), "score": first.score}
