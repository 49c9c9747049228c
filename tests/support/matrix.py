"""Rows of a matrix: a few that every run shows, the others of `make matrix`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sampled(rows: Iterable[Any], *chosen: Any) -> list[Any]:
    """Return the rows for `parametrize`: those that are not chosen are marked `matrix`."""
    listed = list(rows)
    missing = [row for row in chosen if row not in listed]
    assert not missing, f"no such rows: {missing}"
    return [_row(row, chosen) for row in listed]


def _row(row: Any, chosen: Collection[Any]) -> Any:
    values = row if isinstance(row, tuple) else (row,)
    return pytest.param(*values, marks=() if row in chosen else pytest.mark.matrix)
