"""Rows of data from JSON lines, CSV, TSV and folders, each with the line that it stood on."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import UsageError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SOUNDS = (".wav",)
MOST_BYTES = 4 << 30
_LONGEST_CELL = 10_000_000
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `line` counts from 1 in its file, or is a file's number in its folder."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with the columns that any of them has; `base` is where relative paths start."""

    path: Path
    base: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    sha256: str


class Problems:
    """Gathers what is wrong with rows, so that one error tells of several."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: list[tuple[int, str]] = []

    def add(self, line: int, what: str) -> None:
        """Note one."""
        self._found.append((line, what))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._found)

    def check(self) -> None:
        """Raise UsageError where there are any."""
        if not self._found:
            return
        shown = [f"line {line}: {what}" for line, what in sorted(self._found)[:_SHOWN]]
        if len(self._found) > _SHOWN:
            shown.append(f"and {len(self._found) - _SHOWN} more")
        count = len({line for line, _ in self._found})
        rows = "1 row" if count == 1 else f"{count} rows"
        raise UsageError(f"{self._path}: {rows} cannot be used", why="\n  ".join(shown))


def read_table(path: Path, limit: int | None = None) -> Table:
    """Read a file, or a folder of pictures or sounds; UsageError names each line that is wrong."""
    try:
        if path.is_dir():
            return _folder(path, limit)
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} is larger than {MOST_BYTES >> 30} GiB")
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=error.strerror or str(error)) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}: line {line} is not UTF-8", why=str(error)) from None
    rows = _limited(_reader(path)(path, text), limit)
    columns = tuple(dict.fromkeys(name for row in rows for name in row.values))
    if not rows:
        raise UsageError(f"{path} has no rows")
    return Table(path, path.parent, columns, rows, hashlib.sha256(content).hexdigest())


def _reader(path: Path) -> Any:
    known = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _commas, ".tsv": _tabs}
    reader = known.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{path} is no data that is known", why="a .jsonl, .csv or .tsv file, or a folder"
        )
    return reader


def _limited(rows: Sequence[Row], limit: int | None) -> tuple[Row, ...]:
    return tuple(rows if limit is None else rows[:limit])


def _json_lines(path: Path, text: str) -> list[Row]:
    problems, rows = Problems(path), []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(number, f"no JSON: {error}")
            continue
        if not isinstance(value, dict):
            problems.add(number, f"a JSON object is wanted, not {type(value).__name__}")
            continue
        rows.append(Row(number, value))
    problems.check()
    return rows


def _commas(path: Path, text: str) -> list[Row]:
    return _separated(path, text, ",")


def _tabs(path: Path, text: str) -> list[Row]:
    return _separated(path, text, "\t")


def _separated(path: Path, text: str, mark: str) -> list[Row]:
    """Quotes may hold marks and line ends in CSV (RFC 4180); TSV knows none."""
    csv.field_size_limit(_LONGEST_CELL)
    text_file = io.StringIO(text, newline="")
    if mark == ",":
        lines = csv.reader(text_file, strict=True)
    else:
        lines = csv.reader(text_file, delimiter=mark, quoting=csv.QUOTE_NONE, strict=True)
    problems, rows = Problems(path), []
    header: list[str] | None = None
    for number, cells in _numbered(path, lines):
        if not cells:
            continue
        if header is None:
            header = _header(path, cells)
        elif len(cells) != len(header):
            problems.add(number, f"{len(cells)} cells, the header has {len(header)}")
        else:
            rows.append(Row(number, dict(zip(header, cells, strict=True))))
    problems.check()
    return rows


def _numbered(path: Path, lines: Any) -> Iterator[tuple[int, list[str]]]:
    first = 1
    try:
        for cells in lines:
            yield first, cells
            first = lines.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{path}: line {first} cannot be read", why=str(error)) from None


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(set(names)) != len(names) or not all(names):
        raise UsageError(
            f"{path}: line 1 is no header", why="a column has no name, or two have one"
        )
    return names


def _folder(path: Path, limit: int | None) -> Table:
    """Pictures or sounds: a class is the folder it lies in, a transcript the .txt beside it."""
    found = sorted(one for one in path.rglob("*") if one.is_file())
    files = [one for one in found if one.suffix.lower() in PICTURES + SOUNDS][:limit]
    if not files:
        raise UsageError(f"{path} holds no pictures and no WAV files")
    rows = tuple(Row(n, _told(path, one)) for n, one in enumerate(files, 1))
    columns = tuple(dict.fromkeys(name for row in rows for name in row.values))
    digest = hashlib.sha256()
    for one, row in zip(files, rows, strict=True):
        digest.update(hashlib.sha256(one.read_bytes()).digest())
        digest.update(json.dumps(row.values, sort_keys=True).encode())
    return Table(path, path, columns, rows, digest.hexdigest())


def _told(folder: Path, file: Path) -> dict[str, str]:
    place = file.relative_to(folder)
    told = {"image" if file.suffix.lower() in PICTURES else "audio": place.as_posix()}
    if len(place.parts) > 1:
        told["label"] = place.parts[-2]
    words = file.with_suffix(".txt")
    if words.is_file():
        told["text"] = words.read_text(encoding="utf-8", errors="replace").strip()
    return told
