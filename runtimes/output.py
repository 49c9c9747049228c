"""Print rows as a table, JSON, JSON lines or CSV: the one way a command writes its result."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence

FORMS = ("table", "json", "jsonl", "csv")
GAP = "  "
_DIGEST = re.compile("[0-9a-f]{64}")
_SHORT_DIGEST = 12


def print_rows(rows: Sequence[Mapping[str, object]], columns: Sequence[str], form: str) -> None:
    """Write `rows` to stdout in one of `FORMS`, the keys in `columns` only and in that order.

    A table is drawn with rich on a terminal and as plain aligned columns in a pipe; nothing is cut
    but SHA-256 digests, to the twelve letters that people tell them apart by. A missing key is
    null in JSON and empty elsewhere. Raises ValueError for another form.
    """
    if form == "table" and sys.stdout.isatty():
        _print_rich(rows, columns)
        return
    sys.stdout.write(render_rows(rows, columns, form))
    sys.stdout.flush()


def render_rows(rows: Sequence[Mapping[str, object]], columns: Sequence[str], form: str) -> str:
    """Return what `print_rows` writes into a pipe, with its last newline."""
    if form == "json":
        return _json([_picked(row, columns) for row in rows], indent=2) + "\n"
    if form == "jsonl":
        return "".join(_json(_picked(row, columns)) + "\n" for row in rows)
    if form == "csv":
        return _csv(rows, columns)
    if form == "table":
        return _plain(rows, columns)
    raise ValueError(f"no output form {form!r}; one of {', '.join(FORMS)}")


def render_json(document: object) -> str:
    """Return one JSON document with its last newline; NaN and infinities become null."""
    return _json(document, indent=2) + "\n"


def print_json(document: object) -> None:
    """Write one JSON document to stdout; NaN and infinities become null."""
    sys.stdout.write(render_json(document))
    sys.stdout.flush()


def cell(value: object) -> str:
    """Return a value as one line of text that cannot drive a terminal.

    Control and format characters (a device's name may hold escape sequences) are written as
    their escapes; floats have four significant digits; lists are joined with commas.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value)
    return "".join(_visible(letter) for letter in str(value))


def _table_cell(value: object) -> str:
    text = cell(value)
    return text[:_SHORT_DIGEST] if _DIGEST.fullmatch(text) else text


def _visible(letter: str) -> str:
    if unicodedata.category(letter)[0] != "C":
        return letter
    return letter.encode("unicode_escape").decode("ascii")


def _picked(row: Mapping[str, object], columns: Sequence[str]) -> dict[str, object]:
    return {column: row.get(column) for column in columns}


def _json(document: object, indent: int | None = None) -> str:
    return json.dumps(_finite(document), indent=indent, ensure_ascii=False, default=str)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _csv(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_cell(row.get(column)) for column in columns])
    return buffer.getvalue()


def _csv_cell(value: object) -> str:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    return cell(value)


def _plain(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    table = [[column.replace("_", " ") for column in columns]]
    table += [[_table_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(_width(line[index]) for line in table) for index in range(len(columns))]
    right = [_is_number_column(rows, column) for column in columns]
    return "".join(_plain_line(line, widths, right) for line in table)


def _plain_line(line: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for text, width, to_right in zip(line, widths, right, strict=True):
        space = " " * (width - _width(text))
        padded.append(space + text if to_right else text + space)
    return GAP.join(padded).rstrip() + "\n"


def _is_number_column(rows: Sequence[Mapping[str, object]], column: str) -> bool:
    values = [row[column] for row in rows if row.get(column) is not None]
    return bool(values) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
    )


def _width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) != 0 for letter in text)


def _print_rich(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        to_right = _is_number_column(rows, column)
        header = column.replace("_", " ")
        table.add_column(header, justify="right" if to_right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_table_cell(row.get(column))) for column in columns))
    Console().print(table)
