"""A writer's own folder beside the destination: locked while it lives, swept once it is dead."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def scratch_folder(destination: Path) -> Iterator[Path]:
    """Give a new folder on the destination's file system and remove what is left of it after.

    Folders that dead writers of the same destination left behind are removed first. Raises
    OSError where none can be made.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    _sweep(destination)
    folder, lock = _claim(destination)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _prefix(destination: Path) -> str:
    return f".{destination.name}.partial-"


def _claim(destination: Path) -> tuple[Path, int]:
    """A sweeper may take a folder between its making and its locking: then make another."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(destination), dir=destination.parent))
        try:
            descriptor = os.open(folder, _FOLDER)
        except FileNotFoundError:
            continue
        if _lock(descriptor, unsupported=True) and folder.is_dir():
            return folder, descriptor
        os.close(descriptor)


def _sweep(destination: Path) -> None:
    prefix = _prefix(destination)
    for entry in list(os.scandir(destination.parent)):
        if not entry.name.startswith(prefix):
            continue
        try:
            descriptor = os.open(entry.path, _FOLDER)
        except OSError:
            continue
        if _lock(descriptor, unsupported=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        os.close(descriptor)


def _lock(descriptor: int, *, unsupported: bool) -> bool:
    """Whether the lock was free; `unsupported` is the answer where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unsupported
    return True
