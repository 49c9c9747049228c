"""Texts, or pairs of them, to classes, or to numbers where the model is a regression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeward.runtimes.session import DEFAULT_BATCH, Session
from edgeward.runtimes.tasks.labels import read_config, read_labels
from edgeward.runtimes.tasks.text_graph import Text
from edgeward.targets.evaluation.cases import LABEL, NUMBER, Case, Found, Settings, Work
from edgeward.targets.evaluation.columns import Columns, known_labels
from edgeward.targets.evaluation.table import Table

CLASSES = ("accuracy", "precision", "recall", "f1")


def work(folder: Path, table: Table, settings: Settings) -> Work:
    """Return the cases of `text`, `text_pair` where there is one, and `label`."""
    config = read_config(folder)
    columns = Columns(table, settings.columns)
    text, label, pair = columns.need("text"), columns.need("label"), columns.find("text_pair")
    given = [{"text": columns.text(row, text)} for row in table.rows]
    if pair is not None:
        for one, row in zip(given, table.rows, strict=True):
            one["text_pair"] = columns.text(row, pair)
    wanted: list[str] | list[float]
    if config.get("problem_type") == "regression":
        wanted = [columns.number(row, label) for row in table.rows]
    else:
        told = [(row.line, columns.label(row, label)) for row in table.rows]
        wanted = known_labels(columns, told, read_labels(config))
    columns.problems.check()
    cases = tuple(
        Case(row.line, one, value)
        for row, one, value in zip(table.rows, given, wanted, strict=True)
    )
    if config.get("problem_type") == "regression":
        return Work(NUMBER, ("mae", "r2", "spearman"), cases, _numbers)
    return Work(LABEL, CLASSES, cases, _classes)


def batches(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    """Give neighbouring cases, so many as are run at once."""
    for start in range(0, len(cases), DEFAULT_BATCH):
        yield cases[start : start + DEFAULT_BATCH]


def _classes(session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    for batch in batches(cases):
        for ranked in session.classify([_text(case) for case in batch], top_k=1):
            yield {LABEL: ranked[0].label, "score": ranked[0].score}


def _numbers(session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    for batch in batches(cases):
        for ranked in session.classify([_text(case) for case in batch], top_k=1):
            yield {NUMBER: ranked[0].score}


def _text(case: Case) -> Text:
    pair = case.given.get("text_pair")
    return case.given["text"] if pair is None else (case.given["text"], pair)
