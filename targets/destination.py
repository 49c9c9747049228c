"""Where a profile that was made here goes: standard output, a file, or the user's own place."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edgeward.errors import UsageError

from .load import user_place
from .schema import TARGET


def check_name(name: str) -> None:
    """Raise UsageError where no target can have this name."""
    if not TARGET.fullmatch(name):
        raise UsageError(f"{name[:80]!a} is no name for a target", why="use a-z, 0-9 and hyphens")


def destination(name: str, file: str | None) -> Path | None:
    """Return the path that a target's profile is written to, None for standard output, `-`.

    Without a file it stands beside the user's other targets. To be asked before anything is
    measured: raises UsageError where nothing could be written there.
    """
    if file == "-":
        return None
    if file is not None:
        return _writable(Path(file))
    check_name(name)
    path = user_place() / f"{name}.toml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be written", why=error.strerror or "") from error
    return _writable(path)


def _writable(path: Path) -> Path:
    if path.is_dir():
        raise UsageError(f"{path} cannot be written", why="it is a folder")
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written", why=f"there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written", why="permission denied")
    return path


def put(text: str, path: Path | None) -> None:
    """Write a profile and say where, on stderr.

    Raises UsageError where it cannot be written after all, with its text on standard output, so
    that what was measured is not lost.
    """
    if path is None:
        sys.stdout.write(text)
        return
    try:
        _replace(path.resolve(), text)
    except OSError as error:
        sys.stdout.write(text)
        why = f"{error.strerror or error}; the profile stands on standard output"
        raise UsageError(f"{path} cannot be written", why=why) from error
    sys.stderr.write(f"written: {path}\n")


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all; a pipe, a device or what a closed folder has as it is."""
    if path.exists() and not (path.is_file() and os.access(path.parent, os.W_OK)):
        path.write_text(text, encoding="utf-8")
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
