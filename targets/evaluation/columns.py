"""Which column is which: names by convention, or as `--columns text=review` says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeward.errors import UsageError

from .table import Problems, Row, Table

# What a column may be called, the first that is there is taken.
NAMES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "sentence1", "text_a", "premise", "source", "input"),
    "text_pair": ("text_pair", "sentence2", "text_b", "hypothesis"),
    "label": ("label", "class", "target"),
    "score": ("score", "similarity", "label"),
    "image": ("image", "picture", "file_name", "file"),
    "objects": ("objects", "annotations", "boxes"),
    "mask": ("mask", "annotation", "label"),
    "audio": ("audio", "sound", "file"),
    "transcript": ("text", "transcript", "sentence"),
    "question": ("question",),
    "context": ("context", "passage"),
    "answers": ("answers", "answer"),
    "query": ("query", "question"),
    "document": ("document", "text", "passage", "positive"),
    "id": ("id", "document_id"),
    "relevant": ("relevant", "relevant_ids"),
    "prompt": ("prompt", "question", "instruction"),
    "messages": ("messages",),
    "reference": ("reference", "references", "answer", "target", "completion", "summary"),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags"),
    "entities": ("entities", "spans"),
}


class Columns:
    """Reads the cells of one table; what is wrong is gathered in `problems`."""

    def __init__(self, table: Table, stated: Mapping[str, str]) -> None:
        self.table = table
        self.problems = Problems(table.path)
        self._stated = stated
        for role, name in stated.items():
            if role not in NAMES:
                raise UsageError(
                    f"--columns knows no {role!r}", why=f"known: {', '.join(sorted(NAMES))}"
                )
            if name not in table.columns:
                raise UsageError(
                    f"{table.path} has no column {name!r}", why=f"it has {_listed(table.columns)}"
                )

    def find(self, role: str) -> str | None:
        """Return the name of the column that plays a role, None where there is none."""
        if role in self._stated:
            return self._stated[role]
        taken = set(self._stated.values())
        names = (name for name in NAMES[role] if name not in taken)
        return next((name for name in names if name in self.table.columns), None)

    def need(self, role: str) -> str:
        """Return the name of the column that plays a role; UsageError where there is none."""
        found = self.find(role)
        if found is None:
            raise UsageError(
                f"{self.table.path} has no column for {role}",
                why=f"it has {_listed(self.table.columns)}; looked for {_listed(NAMES[role])}",
                next=f"edgeward eval BUNDLE --data FILE --columns {role}=COLUMN",
            )
        return found

    def text(self, row: Row, column: str, *, empty: bool = False) -> str:
        """Return a cell as text; a problem where it is none, or empty unless that is allowed."""
        value = row.values.get(column)
        if not isinstance(value, str):
            self.problems.add(row.line, f"{column} is {_kind(value)}, a text is wanted")
        elif not value.strip() and not empty:
            self.problems.add(row.line, f"{column} is empty")
        elif any("\ud800" <= letter <= "\udfff" for letter in value):
            self.problems.add(row.line, f"{column} holds half a character")
        else:
            return value
        return ""

    def texts(self, row: Row, column: str) -> tuple[str, ...]:
        """Return a cell that is a text, a list of them, or SQuAD's {"text": [...]}."""
        value = row.values.get(column)
        if isinstance(value, Mapping):
            value = value.get("text")
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            return tuple(value)
        if isinstance(value, str):
            return (value,)
        self.problems.add(row.line, f"{column} is {_kind(value)}, a text or a list is wanted")
        return ("",)

    def number(self, row: Row, column: str) -> float:
        """Return a cell as a finite number."""
        value = row.values.get(column)
        try:
            number = math.nan if isinstance(value, (bool, type(None))) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
        self.problems.add(row.line, f"{column} is {_kind(value)}, a number is wanted")
        return 0.0

    def label(self, row: Row, column: str) -> str:
        """Return a cell as the name, or the number, of a class."""
        value = row.values.get(column)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if type(value) is int:
            return str(value)
        self.problems.add(row.line, f"{column} is {_kind(value)}, a class is wanted")
        return ""

    def listed(self, row: Row, column: str) -> Sequence[Any]:
        """Return a cell that is a list."""
        value = row.values.get(column)
        if isinstance(value, list):
            return value
        self.problems.add(row.line, f"{column} is {_kind(value)}, a list is wanted")
        return ()

    def file(self, row: Row, column: str) -> Path:
        """Return a cell that names a file in the table's own folder; none that leads out of it."""
        name = self.text(row, column)
        path = self.table.base / name
        try:
            inside = path.resolve().is_relative_to(self.table.base.resolve())
            there = path.is_file()
        except (OSError, ValueError, RuntimeError):
            inside = there = False
        if name and not (inside and there):
            self.problems.add(row.line, f"{column}: no file {name!r:.100} in {self.table.base}")
        return path


def known_labels(
    columns: Columns, told: Sequence[tuple[int, str]], names: Sequence[str]
) -> list[str]:
    """Return labels by the model's names for them; a problem for each that it does not know.

    Numbers stand for the model's classes where every label is one and none is a name.
    """
    numbers = not {label for _, label in told} & set(names)
    found = []
    for line, label in told:
        if numbers and names and label.isdecimal() and int(label) < len(names):
            found.append(names[int(label)])
            continue
        found.append(label)
        if names and label and label not in names:
            columns.problems.add(line, f"the model has no class {label!r}: {_listed(names)}")
    return found


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    return "empty" if value == "" else f"{value!r:.40}"


def _listed(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return f"{shown}, …" if len(names) > most else shown
