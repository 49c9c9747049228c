"""Folders as a whole: their size, and putting them safely on the disk."""

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


def fsync_tree(folder: Path) -> None:
    """Put every file and folder below a folder, and itself, on the disk."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            fsync(Path(place, name))
        fsync(Path(place))


def fsync(path: Path) -> None:
    """Put one file or folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_size(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_size
    return 0
