"""Pictures to classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.labels import read_config, read_labels
from edgeward.targets.evaluation.cases import LABEL, Case, Found, Settings, Work
from edgeward.targets.evaluation.columns import Columns, known_labels
from edgeward.targets.evaluation.table import Table

from .texts import CLASSES


def work(folder: Path, table: Table, settings: Settings) -> Work:
    """Return the cases of `image` and `label`; in a folder, of the files and their folders."""
    columns = Columns(table, settings.columns)
    image, label = columns.need("image"), columns.need("label")
    files = [columns.file(row, image) for row in table.rows]
    told = [(row.line, columns.label(row, label)) for row in table.rows]
    wanted = known_labels(columns, told, read_labels(read_config(folder)))
    columns.problems.check()
    cases = tuple(
        Case(row.line, {"image": str(file)}, value)
        for row, file, value in zip(table.rows, files, wanted, strict=True)
    )
    return Work(LABEL, CLASSES, cases, _run)


def _run(session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    for case in cases:
        (first,) = session.classify_image(case.given["image"], top_k=1)
        yield {LABEL: first.label, "score": first.score}
