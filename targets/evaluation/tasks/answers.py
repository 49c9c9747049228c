"""Questions and texts to the span that answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeward.runtimes.session import Session
from edgeward.targets.evaluation.cases import TEXT, Case, Found, Settings, Work
from edgeward.targets.evaluation.columns import Columns
from edgeward.targets.evaluation.table import Table


def work(_folder: Path, table: Table, settings: Settings) -> Work:
    """Return the cases of `question`, `context` and `answers`, as SQuAD has them or a text."""
    columns = Columns(table, settings.columns)
    question, context = columns.need("question"), columns.need("context")
    answers = columns.need("answers")
    cases = tuple(
        Case(
            row.line,
            {"question": columns.text(row, question), "context": columns.text(row, context)},
            columns.texts(row, answers),
        )
        for row in table.rows
    )
    columns.problems.check()
    return Work(TEXT, ("exact-match", "token-f1"), cases, _run)


def _run(session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    for case in cases:
        found = session.answer(case.given["question"], case.given["context"])
        yield {TEXT: found[0].text if found else "", "score": found[0].score if found else 0.0}
