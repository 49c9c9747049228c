"""An evaluation as people and programs read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeward.runtimes.output import cell, render_json, render_rows

from .evaluate import Evaluation, Figure
from .metrics.classes import matrix

Row = dict[str, object]
FORMS = ("table", "json", "jsonl", "csv", "md")
COLUMNS = ("metric", "value", "low", "high", "cases")
COMPARED = ("against", "difference", "difference_low", "difference_high", "p", "test")
GATED = ("bound", "passed")


def figure_row(figure: Figure) -> Row:
    """Return a figure as a row; `low` and `high` are its 95 % interval."""
    row: Row = {
        "metric": figure.name,
        "value": figure.value,
        "cases": figure.cases,
        "better": figure.better,
        "note": figure.note,
    }
    if figure.interval is not None:
        row |= {"low": figure.interval.low, "high": figure.interval.high}
    if figure.other is not None:
        row["against"] = figure.other
    if figure.difference is not None:
        apart = figure.difference
        row |= {"difference": apart.value, "p": apart.p, "test": apart.test}
        row |= {"difference_low": apart.low, "difference_high": apart.high}
    if figure.gate is not None:
        row |= {"bound": figure.gate.words(), "passed": figure.passed}
    return row


def render(evaluation: Evaluation, form: str) -> str:
    """Return the evaluation in one of FORMS."""
    rows = [figure_row(figure) for figure in evaluation.figures]
    columns = _columns(evaluation)
    if form == "json":
        return render_json(_document(evaluation, rows, (*columns, "better", "note")))
    if form in ("jsonl", "csv"):
        named = [{"bundle": _name(evaluation), **row} for row in rows]
        return render_rows(named, ("bundle", *columns, "better", "note"), form)
    draw = _markdown if form == "md" else _table
    parts = [_headline(evaluation), draw(rows, columns)]
    if evaluation.confusion is not None:
        parts.append("confusion (rows: wanted, columns: found)\n")
        parts.append(draw(*_matrix(evaluation)))
    notes = {figure.name: figure.note for figure in evaluation.figures if figure.note}
    if notes:
        listed = [cell(f"{name}: {note}") for name, note in notes.items()]
        parts.append("\n".join(f"- {one}" if form == "md" else one for one in listed) + "\n")
    return "\n".join(parts)


def failure_words(evaluation: Evaluation) -> str:
    """Return what missed its gate, in one line."""
    missed = [
        f"{figure.name} {figure.value:.4g} is not {figure.gate.words()}"
        for figure in evaluation.missed
        if figure.gate is not None
    ]
    return f"{_name(evaluation)}: {', '.join(missed)}"


def _columns(evaluation: Evaluation) -> tuple[str, ...]:
    compared = COMPARED if evaluation.against is not None else ()
    gated = GATED if any(figure.gate for figure in evaluation.figures) else ()
    return (*COLUMNS, *compared, *gated)


def _name(evaluation: Evaluation) -> str:
    return evaluation.bundle.path.absolute().name


def _headline(evaluation: Evaluation) -> str:
    against = evaluation.against
    other = f", against {against.path.absolute().name}" if against is not None else ""
    data = f"{evaluation.cases} cases of {evaluation.table.path.name}"
    return cell(f"{_name(evaluation)}{other}: {data}, {evaluation.bundle.manifest.task}") + "\n"


def _document(evaluation: Evaluation, rows: Sequence[Row], columns: Sequence[str]) -> Row:
    manifest, against = evaluation.bundle.manifest, evaluation.against
    document: Row = {
        "bundle": {"name": _name(evaluation), "digest": evaluation.bundle.digest},
        "task": manifest.task,
        "data": {"name": evaluation.table.path.name, "sha256": evaluation.table.sha256},
        "cases": evaluation.cases,
        "seconds": round(evaluation.seconds, 3),
        "figures": [{name: row.get(name) for name in columns} for row in rows],
        "passed": not evaluation.missed,
    }
    if against is not None:
        document["against"] = {"name": against.path.absolute().name, "digest": against.digest}
    if evaluation.confusion is not None:
        scores = evaluation.confusion
        document["confusion"] = {"labels": list(scores.names), "counts": matrix(scores)}
    if evaluation.unjudged:
        document["unjudged"] = evaluation.unjudged
    return document


def _matrix(evaluation: Evaluation) -> tuple[list[Row], tuple[str, ...]]:
    scores = evaluation.confusion
    if scores is None:
        return [], ()
    rows: list[Row] = [
        {"wanted": name, **dict(zip(scores.names, counts, strict=True))}
        for name, counts in zip(scores.names, matrix(scores), strict=True)
    ]
    return rows, ("wanted", *scores.names)


def _table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    return render_rows(rows, columns, "table")


def _markdown(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    lines = [[column.replace("_", " ") for column in columns], ["---"] * len(columns)]
    lines += [[cell(row.get(column)).replace("|", "\\|") for column in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
