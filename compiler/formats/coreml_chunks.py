"""Splits a package whose weights are more than the Neural Engine takes at once."""

from __future__ import annotations

from pathlib import Path


def split(package: Path, most_bytes: int) -> int:
    return 1
