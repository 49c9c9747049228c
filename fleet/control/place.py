"""Where the fleet home is where nobody says."""

from __future__ import annotations

import os
from pathlib import Path


def default_home() -> Path:
    """Return `$XDG_DATA_HOME/edgeward/fleet`."""
    stated = os.environ.get("XDG_DATA_HOME")
    data = Path(stated) if stated else Path.home() / ".local" / "share"
    return data / "edgeward" / "fleet"
