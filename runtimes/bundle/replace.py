"""Putting a folder in another's place so that a crash leaves one of the two, whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .durable import sync
from .exchange import exchange


def replace_folder(new: Path, destination: Path) -> None:
    """Rename `new` to `destination`; what stood there is removed afterwards.

    One step where the system can swap folders. Where it cannot, the old one is set aside under
    `set_aside(destination)` for the moment between two renames; `heal` brings it back.
    """
    if not _takes_free_place(new, destination) and not exchange(new, destination):
        _replace_in_two_steps(new, destination)
    sync(destination.parent)
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(set_aside(destination), ignore_errors=True)


def set_aside(destination: Path) -> Path:
    """Return where the old folder waits while it is being replaced in two steps."""
    return destination.with_name(f".{destination.name}.old")


def heal(destination: Path) -> None:
    """Bring back what a writer that died between its two renames had set aside."""
    old = set_aside(destination)
    if old.is_dir() and not os.path.lexists(destination):
        old.rename(destination)


def _takes_free_place(new: Path, destination: Path) -> bool:
    if os.path.lexists(destination):
        return False
    try:
        new.rename(destination)
    except OSError:
        if not os.path.lexists(destination):
            raise
        return False
    return True


def _replace_in_two_steps(new: Path, destination: Path) -> None:
    old = set_aside(destination)
    shutil.rmtree(old, ignore_errors=True)
    destination.rename(old)
    try:
        new.rename(destination)
    except BaseException:
        old.rename(destination)
        raise
