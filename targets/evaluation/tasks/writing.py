"""Prompts to texts, to classes where the data has labels, and texts to what they cost in nats."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgeward.errors import EdgewardError, UsageError
from edgeward.runtimes.proof.generation import surprisal
from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.chat import check_messages
from edgeward.runtimes.tasks.generation import Generator
from edgeward.targets.evaluation.cases import LABEL, NATS, TEXT, Case, Found, Settings, Work
from edgeward.targets.evaluation.columns import Columns
from edgeward.targets.evaluation.table import Row, Table

from .texts import CLASSES

NONE = "(none)"
OVERLAP = ("exact-match", "bleu", "rouge-l")
_ROWS = 64


def work(_folder: Path, table: Table, settings: Settings) -> Work:
    """Return the cases of `prompt` or `messages`, or of `text` alone for its perplexity.

    What is wanted is `reference`, one or several texts, or `label`; without either the answers are
    for checks and judges.
    """
    columns = Columns(table, settings.columns)
    asks = columns.find("messages") or columns.find("prompt")
    if asks is None and columns.find("reference") is None and columns.find("label") is None:
        return _texts(columns, settings)
    asks = asks or columns.need("text")
    reference, label = columns.find("reference"), columns.find("label")
    cases = tuple(
        Case(row.line, _given(columns, row, asks), _wanted(columns, row, reference, label))
        for row in table.rows
    )
    columns.problems.check()
    if reference is None and label is not None:
        labels = sorted({case.wanted for case in cases})
        return Work(LABEL, CLASSES, cases, partial(_labelled, settings, labels))
    metrics = OVERLAP if reference is not None else ()
    return Work(TEXT, metrics, cases, partial(_written, settings))


def _given(columns: Columns, row: Row, column: str) -> Mapping[str, Any]:
    value = row.values.get(column)
    if not isinstance(value, list):
        return {"prompt": columns.text(row, column)}
    try:
        return {"prompt": check_messages(value)}
    except EdgewardError as error:
        columns.problems.add(row.line, f"{column}: {error.what}")
        return {"prompt": ""}


def _wanted(columns: Columns, row: Row, reference: str | None, label: str | None) -> Any:
    if reference is not None:
        return columns.texts(row, reference)
    return columns.label(row, label) if label is not None else ()


def _written(settings: Settings, session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    for case in cases:
        prompt = case.given["prompt"]
        if isinstance(prompt, str) and not settings.raw:
            prompt = session.question(prompt, settings.system)
        pieces = session.generate(prompt, max_tokens=settings.max_tokens)
        yield {TEXT: "".join(piece.text for piece in pieces).strip()}


def _labelled(
    settings: Settings, labels: Sequence[str], session: Session, cases: Sequence[Case]
) -> Iterator[Found]:
    for found in _written(settings, session, cases):
        yield {LABEL: label_in(found[TEXT], labels), TEXT: found[TEXT]}


def label_in(text: str, labels: Sequence[str]) -> str:
    """Return the label that an answer is, else the only one that it names, else `(none)`."""
    plain = text.strip().strip(".!\"'").casefold()
    exact = [label for label in labels if label.casefold() == plain]
    named = [
        label
        for label in labels
        if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.IGNORECASE)
    ]
    chosen = exact or named
    return chosen[0] if len(chosen) == 1 else NONE


def _texts(columns: Columns, settings: Settings) -> Work:
    text = columns.need("text")
    cases = tuple(
        Case(row.line, {"text": columns.text(row, text)}, None) for row in columns.table.rows
    )
    columns.problems.check()
    return Work(NATS, ("perplexity",), cases, partial(_surprises, settings.window))


def _surprises(window: int, session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    generator = session.generator
    limit = min(window, generator.context_limit or window)
    if limit < 2:
        raise UsageError(f"A window has at least two tokens, not {limit}")
    for case in cases:
        ids = generator.encode(case.given["text"])
        nats = sum(_nats(generator, ids, *span) for span in windows(len(ids), limit))
        yield {NATS: nats, "tokens": len(ids) - 1}


def windows(tokens: int, limit: int) -> Iterator[tuple[int, int, int]]:
    """Give (start, first told, end): each token behind the first is told once.

    A window begins in the middle of the one before, so that what it tells has at least half a
    window before it.
    """
    told, start = 1, 0
    while told < tokens:
        end = min(start + limit, tokens)
        yield start, told, end
        told, start = end, start + max(limit // 2, 1)


def _nats(generator: Generator, ids: Sequence[int], start: int, first: int, end: int) -> float:
    logits = generator.logits(ids[start:end])
    nats = 0.0
    for at in range(first, end, _ROWS):
        to = min(at + _ROWS, end)
        rows = logits[at - 1 - start : to - 1 - start]
        nats += surprisal(rows, ids[at - 1 : to]) * (to - at)
    return nats
