"""Finds a Python that a lock was resolved for."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from edgeward.errors import ToolchainError

from .lock import Lock


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python and its minor version, such as `3.11`."""

    path: Path
    version: str


def find_interpreter(*locks: Lock) -> Interpreter:
    """Return this Python where every lock allows it, else the newest allowed one on the path.

    A device's Python may be older than what a converter needs. Raises ToolchainError.
    """
    own = ".".join(platform.python_version_tuple()[:2])
    if all(lock.allows(own) for lock in locks):
        return Interpreter(Path(sys.executable), own)
    allowed = [v for v in locks[0].pythons if all(lock.allows(v) for lock in locks)]
    for version in reversed(allowed):
        found = shutil.which(f"python{version}")
        if found:
            return Interpreter(Path(found), version)
    raise ToolchainError(
        f"toolchain {locks[0].name} has no lock for Python {own}",
        why=f"It was resolved for {', '.join(allowed)}, none of which is on the path.",
        next=f"install python{allowed[-1] if allowed else '3.12'}, then edgeward doctor --fix "
        f"{locks[0].name}",
    )
