"""Where results are kept: a SQLite file that grows by one row a measurement."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeward.errors import EdgewardError, UsageError

VARIABLE = "EDGEWARD_BENCH_STORE"
_NAME = "bench.sqlite"
_TABLE = (
    "CREATE TABLE IF NOT EXISTS records "
    "(id INTEGER PRIMARY KEY AUTOINCREMENT, test_time TEXT NOT NULL, record TEXT NOT NULL)"
)


def store_path() -> Path:
    """Return EDGEWARD_BENCH_STORE, else `bench.sqlite` below the user's data."""
    if told := os.environ.get(VARIABLE):
        return Path(told)
    data = os.environ.get("XDG_DATA_HOME")
    home = Path(data) if data else Path.home() / ".local" / "share"
    return home / "edgeward" / _NAME


class Store:
    """The records, oldest first. A file that is none is an error and left as it is."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or store_path()

    def check(self) -> None:
        """Raise EdgewardError where nothing could be appended: before anything is measured."""
        self._make_folder()
        with self._connected() as connection:
            # A lock for writing: a file that can only be read is found here.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("SELECT count(*) FROM records")

    def append(self, record: Mapping[str, Any]) -> int:
        """Keep a record and return its number."""
        text = json.dumps(record, allow_nan=False)
        self._make_folder()
        with self._connected() as connection:
            row = connection.execute(
                "INSERT INTO records (test_time, record) VALUES (?, ?)",
                (str(record["test_time"]), text),
            )
            return int(row.lastrowid or 0)

    def records(self) -> list[dict[str, Any]]:
        """Return every record with its `id`; none where there is no store yet."""
        if not self.path.exists():
            return []
        with self._connected() as connection:
            rows = connection.execute("SELECT id, record FROM records ORDER BY id").fetchall()
        return [self._parsed(number, text) for number, text in rows]

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from None

    def _parsed(self, number: int, text: object) -> dict[str, Any]:
        try:
            record = json.loads(str(text))
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise self._unusable(f"record {number} is no JSON object")
        return {"id": number, **record}

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=30)
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from None
        try:
            with connection:
                connection.execute(_TABLE)
                yield connection
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from None
        finally:
            connection.close()

    def _unusable(self, why: str) -> EdgewardError:
        return EdgewardError(
            f"The store of measurements {self.path} cannot be used",
            why=f"{why}; it was left as it is",
            next=f"move it away, or set {VARIABLE} to another file",
        )


def find(records: Sequence[dict[str, Any]], named: str) -> dict[str, Any]:
    """Return the record that is meant: a number, `last`, `last~2`, or a bundle's newest.

    A bundle is meant by its folder, name, or the begin of its digest. Raises UsageError where
    nothing, or nothing yet, is meant.
    """
    if not records:
        raise UsageError("Nothing was measured yet", next="edgeward bench BUNDLE")
    head, _, back = named.partition("~")
    if head == "last" and (not back or (back.isascii() and back.isdigit())):
        newest = records[: len(records) - int(back[:9] or "0")]
        if newest:
            return newest[-1]
    meant = [record for record in records if _is_meant(record, named)]
    if meant:
        return meant[-1]
    raise UsageError(
        f"No measurement is {named[:80]!a}",
        why=f"there are {len(records)}, the last is number {records[-1]['id']}",
        next="edgeward bench list",
    )


def _is_meant(record: Mapping[str, Any], named: str) -> bool:
    if named == str(record["id"]):
        return True
    folder, digest = str(record.get("model_filename")), str(record.get("bundle_digest"))
    if named in (record.get("bundle"), folder, folder.rstrip("/").rpartition("/")[2]):
        return True
    return len(named) >= 6 and digest.startswith(named)
