"""What is installed, by name and version."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import distributions
from pathlib import Path


def installed_versions(*places: Path) -> dict[str, str]:
    """Return name and version of what is installed in `places` (default: here), and of Python.

    Where two places hold the same package, the first counts, as it does on import.
    """
    path = [str(place) for place in places] if places else sys.path
    versions: dict[str, str] = {}
    for one in distributions(path=path):
        name = one.metadata["Name"] if one.metadata else None
        if name:
            versions.setdefault(name.lower().replace("_", "-"), one.version)
    return {"python": platform.python_version(), **dict(sorted(versions.items()))}
