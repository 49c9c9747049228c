"""Sounds to what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from edgeward.runtimes.session import Session
from edgeward.targets.evaluation.cases import TEXT, Case, Found, Settings, Work
from edgeward.targets.evaluation.columns import Columns
from edgeward.targets.evaluation.table import Table


def work(_folder: Path, table: Table, settings: Settings) -> Work:
    """Return the cases of `audio` and `text`; in a folder, of WAV files and the .txt beside."""
    columns = Columns(table, settings.columns)
    audio, words = columns.need("audio"), columns.need("transcript")
    cases = tuple(
        Case(row.line, {"audio": str(columns.file(row, audio))}, (columns.text(row, words),))
        for row in table.rows
    )
    columns.problems.check()
    return Work(TEXT, ("wer", "cer"), cases, partial(_run, settings.language))


def _run(language: str | None, session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    for case in cases:
        yield {TEXT: session.transcribe(case.given["audio"], language=language).text}
