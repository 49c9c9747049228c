"""The registry's schema: made where there is none, brought up to date where it is older."""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path

from edgeward.errors import FleetError

SCHEMA_VERSION = 2
# What leads to each version from the one before.
UPGRADES = {2: "schema_2.sql"}


def prepare(database: sqlite3.Connection, path: Path) -> None:
    """Make or upgrade the tables, inside the caller's transaction; FleetError for a newer schema.

    An upgrade is for good: an older edgeward refuses the registry afterwards.
    """
    found = database.execute("SELECT name FROM sqlite_master WHERE name = 'meta'").fetchone()
    if found is None:
        _run(database, "schema.sql")
        database.execute("INSERT INTO meta VALUES ('schema_version', '1')")
    version = _version(database)
    if version < 1 or version > SCHEMA_VERSION:
        raise FleetError(
            f"The registry {path} has schema {version}, this edgeward knows {SCHEMA_VERSION}",
            why="a newer edgeward has written it" if version > SCHEMA_VERSION else "",
            next="pip install --upgrade edgeward",
        )
    for following in range(version + 1, SCHEMA_VERSION + 1):
        _run(database, UPGRADES[following])
    database.execute(
        "UPDATE meta SET value = ? WHERE name = 'schema_version'", (str(SCHEMA_VERSION),)
    )


def _version(database: sqlite3.Connection) -> int:
    row = database.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
    return int(row[0]) if row and str(row[0]).isdigit() else 0


def _run(database: sqlite3.Connection, script: str) -> None:
    text = resources.files(__package__).joinpath(script).read_text(encoding="utf-8")
    for statement in text.split(";\n"):
        if statement.strip():
            database.execute(statement)
