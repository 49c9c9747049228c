"""Embeddings: pairs whose likeness is held against scores, or queries that find documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError
from edgeward.runtimes.session import Session
from edgeward.targets.evaluation.cases import NUMBER, PLACES, Case, Found, Settings, Work
from edgeward.targets.evaluation.columns import Columns
from edgeward.targets.evaluation.table import Row, Table

from .texts import batches

DEEPEST = 1000


def work(_folder: Path, table: Table, settings: Settings) -> Work:
    """Return pairs of `text`, `text_pair` and `score`, or queries.

    A row with `query` and `document` is a query and what it should find; one without a query adds
    a document. With `relevant` a query names documents by their `id`. All documents of the table
    are searched.
    """
    columns = Columns(table, settings.columns)
    if columns.find("query") is not None:
        return _queries(columns, settings)
    text, pair, score = columns.need("text"), columns.need("text_pair"), columns.need("score")
    cases = tuple(
        Case(
            row.line,
            {"text": columns.text(row, text), "text_pair": columns.text(row, pair)},
            columns.number(row, score),
        )
        for row in table.rows
    )
    columns.problems.check()
    return Work(NUMBER, ("spearman",), cases, partial(_likeness, settings.prompt))


def _likeness(prompt: str | None, session: Session, cases: Sequence[Case]) -> Iterator[Found]:
    """Each text is embedded once: sets of pairs are often of few texts."""
    vectors: dict[str, NDArray[np.float32]] = {}
    for batch in batches(cases):
        texts = {case.given[name]: None for case in batch for name in ("text", "text_pair")}
        new = [text for text in texts if text not in vectors]
        vectors.update(zip(new, _unit(session.embed(new, prompt=prompt)), strict=True))
        for case in batch:
            first, second = vectors[case.given["text"]], vectors[case.given["text_pair"]]
            yield {NUMBER: float(first @ second)}


def _queries(columns: Columns, settings: Settings) -> Work:
    corpus, places = _corpus(columns)
    query, relevant = columns.need("query"), columns.find("relevant")
    cases = []
    for row in columns.table.rows:
        if not row.values.get(query):
            continue
        wanted = _relevant(columns, row, relevant, places)
        cases.append(Case(row.line, {"query": columns.text(row, query)}, wanted))
    columns.problems.check()
    if not cases:
        raise UsageError(f"{columns.table.path} has no row with a {query}")
    metrics = ("recall@1", "recall@5", "recall@10", "mrr")
    return Work(PLACES, metrics, tuple(cases), partial(_found, corpus, settings.prompt))


def _corpus(columns: Columns) -> tuple[list[str], dict[str, int]]:
    """The documents, each once, and the place of each by its id, or by its text without ids."""
    document, named = columns.need("document"), columns.find("id")
    corpus: list[str] = []
    places: dict[str, int] = {}
    for row in columns.table.rows:
        if not row.values.get(document):
            continue
        text = columns.text(row, document)
        key = text if named is None else columns.label(row, named)
        if key in places and named is not None and corpus[places[key]] != text:
            columns.problems.add(row.line, f"another document has the {named} {key!r:.40}")
        if key not in places:
            places[key] = len(corpus)
            corpus.append(text)
    return corpus, places


def _relevant(
    columns: Columns, row: Row, relevant: str | None, places: dict[str, int]
) -> tuple[int, ...]:
    if relevant is None or row.values.get(relevant) is None:
        named = columns.find("id")
        key = columns.label(row, named) if named else columns.text(row, columns.need("document"))
        wanted = [key]
    else:
        stated = row.values[relevant]
        wanted = [str(one) for one in (stated if isinstance(stated, list) else [stated])]
    missing = [key for key in wanted if key not in places]
    if missing or not wanted:
        columns.problems.add(row.line, f"no document {(missing or [''])[0]!r:.60} in the table")
        return ()
    return tuple(sorted({places[key] for key in wanted}))


def _found(
    corpus: Sequence[str], prompt: str | None, session: Session, cases: Sequence[Case]
) -> Iterator[Found]:
    documents = _unit(session.embed(corpus))
    for batch in batches(cases):
        queries = session.embed([case.given["query"] for case in batch], prompt=prompt)
        order = np.argsort(-(_unit(queries) @ documents.T), axis=1, kind="stable")
        for row in order[:, :DEEPEST]:
            yield {PLACES: [int(place) for place in row]}


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
