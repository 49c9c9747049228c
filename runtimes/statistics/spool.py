"""Statistics on disk until somebody takes them: SQLite, bounded, safe across processes."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeward.errors import EdgewardError

MAX_ROWS = 10_000
_BUSY_S = 10.0
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS deltas (id INTEGER PRIMARY KEY AUTOINCREMENT, delta TEXT)",
    "CREATE TABLE IF NOT EXISTS claim (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER)",
)


class Spool:
    """A queue of deltas; above `MAX_ROWS` the oldest go first."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with self._connection() as connection:
            _write_ahead(connection)
            for statement in _SCHEMA:
                connection.execute(statement)

    def claim(self, number: int) -> int:
        """Return the number that this spool was first claimed with: `number` where it is new.

        With it, a delta's own number names the delta for good, whoever sends it and how often.
        """
        with self._connection() as connection:
            connection.execute("INSERT OR IGNORE INTO claim VALUES (1, ?)", (number,))
            return int(connection.execute("SELECT number FROM claim").fetchone()[0])

    def append(self, delta: dict[str, Any]) -> None:
        """Keep one delta."""
        with self._connection() as connection:
            cursor = connection.execute(
                "INSERT INTO deltas (delta) VALUES (?)", (json.dumps(delta, allow_nan=False),)
            )
            oldest = (cursor.lastrowid or 0) - MAX_ROWS
            connection.execute("DELETE FROM deltas WHERE id <= ?", (oldest,))

    def peek(self, limit: int = 100) -> list[tuple[int, dict[str, Any]]]:
        """Return the oldest deltas with their numbers, leaving them there.

        Rows that hold no delta are removed: nobody could ever take them.
        """
        with self._connection() as connection:
            connection.text_factory = bytes
            rows = connection.execute(
                "SELECT id, delta FROM deltas ORDER BY id LIMIT ?", (limit,)
            ).fetchall()
            found = [(number, _delta(text)) for number, text in rows]
            broken = [(number,) for number, delta in found if delta is None]
            connection.executemany("DELETE FROM deltas WHERE id = ?", broken)
        return [(number, delta) for number, delta in found if delta is not None]

    def discard(self, up_to_id: int) -> None:
        """Forget every delta up to and including this number."""
        with self._connection() as connection:
            connection.execute("DELETE FROM deltas WHERE id <= ?", (up_to_id,))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=_BUSY_S)
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        try:
            with connection:
                yield connection
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        finally:
            connection.close()

    def _unusable(self, error: sqlite3.Error) -> EdgewardError:
        return EdgewardError(
            f"The statistics spool {self.path} cannot be used",
            why=str(error),
            next=f"move {self.path} away: a new one is made",
        )


def _write_ahead(connection: sqlite3.Connection) -> None:
    """SQLite's own wait for a lock leaves out the change of the journal: two that make it meet."""
    deadline = time.monotonic() + _BUSY_S
    while not _changed_journal(connection, deadline):
        time.sleep(0.01)


def _changed_journal(connection: sqlite3.Connection, deadline: float) -> bool:
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error) or time.monotonic() > deadline:
            raise
        return False
    return True


def _delta(text: object) -> dict[str, Any] | None:
    """Rows are read as bytes: one that is not UTF-8 would hide all others."""
    try:
        delta = json.loads(text) if isinstance(text, bytes) else None
    except (ValueError, RecursionError):
        return None
    return delta if isinstance(delta, dict) else None
