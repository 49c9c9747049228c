"""Texts to entities: spans of characters with a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.labels import read_config, read_labels
from edgeward.targets.evaluation.cases import SPANS, Case, Found, Settings, Work
from edgeward.targets.evaluation.columns import Columns
from edgeward.targets.evaluation.table import Row, Table

from .texts import batches

Spans = tuple[tuple[int, int, str], ...]
OUTSIDE = "O"


class _Read(NamedTuple):
    text: str
    spans: Spans


def work(folder: Path, table: Table, settings: Settings) -> Work:
    """Return the cases of `tokens` and `tags`, or of `text` and `entities`.

    Tags are in the `B-`/`I-` notation, or numbers of the model's classes; tokens are joined by a
    space. An entity is {"start", "end", "label"}, by characters.
    """
    columns = Columns(table, settings.columns)
    names = read_labels(read_config(folder))
    if columns.find("tokens") is not None:
        read = [_tagged(columns, row, names) for row in table.rows]
    else:
        read = [_stated(columns, row) for row in table.rows]
    columns.problems.check()
    cases = tuple(
        Case(row.line, {"text": one.text}, one.spans)
        for row, one in zip(table.rows, read, strict=True)
    )
    return Work(SPANS, ("precision", "recall", "f1"), cases, _run)


def _run(session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    for batch in batches(cases):
        for tags in session.tag([case.given["text"] for case in batch]):
            yield {SPANS: [[tag.start, tag.end, tag.label] for tag in tags]}


def _tagged(columns: Columns, row: Row, names: Sequence[str]) -> _Read:
    tokens = columns.listed(row, columns.need("tokens"))
    tags = [_name(tag, names) for tag in columns.listed(row, columns.need("tags"))]
    if not tokens or len(tokens) != len(tags) or not all(isinstance(t, str) for t in tokens):
        columns.problems.add(row.line, f"{len(tokens)} tokens, {len(tags)} tags")
        return _Read("", ())
    return _Read(" ".join(tokens), spans_of(tokens, tags))


def spans_of(tokens: Sequence[str], tags: Sequence[str]) -> Spans:
    """Return the entities of tagged tokens (IOB2; an `I-` behind another class begins one)."""
    found: list[tuple[int, int, str]] = []
    at, open_label = 0, ""
    for token, tag in zip(tokens, tags, strict=True):
        end = at + len(token)
        prefix, dash, label = tag.partition("-")
        if not dash:
            prefix, label = "I", tag
        if tag == OUTSIDE:
            open_label = ""
        elif prefix in ("B", "S", "U") or label != open_label:
            found.append((at, end, label))
            open_label = label
        else:
            found[-1] = (found[-1][0], end, label)
        at = end + 1
    return tuple(found)


def _stated(columns: Columns, row: Row) -> _Read:
    text = columns.text(row, columns.need("text"))
    listed = columns.listed(row, columns.need("entities"))
    spans = [span for one in listed if (span := _span(one, len(text))) is not None]
    if len(spans) != len(listed):
        columns.problems.add(row.line, 'an entity is {"start", "end", "label"} inside the text')
    return _Read(text, tuple(sorted(spans)))


def _span(one: Any, length: int) -> tuple[int, int, str] | None:
    if not isinstance(one, dict):
        return None
    start, end, label = one.get("start"), one.get("end"), one.get("label")
    if type(start) is not int or type(end) is not int or not isinstance(label, str):
        return None
    return (start, end, label) if 0 <= start < end <= length else None


def _name(tag: Any, names: Sequence[str]) -> str:
    if type(tag) is int and 0 <= tag < len(names):
        return names[tag]
    return str(tag)
