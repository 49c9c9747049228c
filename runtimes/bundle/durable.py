"""Putting files and folders on the disk for good."""

from __future__ import annotations

import os
from pathlib import Path


def sync_tree(folder: Path) -> None:
    """Fsync every file and folder below `folder`, and `folder` itself."""
    for at, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(at) / name)
        sync(Path(at))


def sync(path: Path) -> None:
    """Fsync one file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
