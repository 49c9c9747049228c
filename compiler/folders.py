"""How large folders are."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def folder_size(folder: Path) -> int:
    """Return the bytes of all files below a folder; 0 where there is none."""
    size = 0
    for place, _, files in os.walk(folder):
        for name in files:
            size += _file_size(Path(place, name))
    return size


def _file_size(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_size
    return 0
