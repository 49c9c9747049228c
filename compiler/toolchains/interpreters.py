"""Finds a Python that a lock was resolved for."""

from __future__ import annotations

import shutil
import subprocess
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


def find_interpreter(*locks: Lock, own: str | None = None) -> Interpreter:
    """Return this Python where every lock allows it, else the newest allowed one on the path.

    A device's Python may be older than what a converter needs. `own` is this Python's version.
    Raises ToolchainError.
    """
    here = own if own is not None else f"{sys.version_info[0]}.{sys.version_info[1]}"
    if all(lock.allows(here) for lock in locks):
        return Interpreter(Path(sys.executable), here)
    allowed = [v for v in locks[0].pythons if all(lock.allows(v) for lock in locks)]
    for version in reversed(allowed):
        found = shutil.which(f"python{version}")
        if found and _answers(found, version):
            return Interpreter(Path(found), version)
    raise ToolchainError(
        f"toolchain {locks[0].name} has no lock for Python {here}",
        why=f"It was resolved for {', '.join(allowed)}, none of which is on the path.",
        next=f"install python{allowed[-1] if allowed else '3.12'}, then edgeward doctor --fix "
        f"{locks[0].name}",
    )


def _answers(command: str, version: str) -> bool:
    """Tell whether a command really is that Python: version managers put up empty shims."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [command, "-I", "-c", code], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == version
