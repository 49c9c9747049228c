"""Where edgeward keeps what it can make again: toolchains, finished stages, logs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return `EDGEWARD_CACHE`, else `$XDG_CACHE_HOME/edgeward`, else `~/.cache/edgeward`.

    A relative `XDG_CACHE_HOME` is ignored, as the XDG base directory specification asks.
    """
    own = os.environ.get("EDGEWARD_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if Path(shared).is_absolute():
        return Path(shared) / "edgeward"
    return Path.home() / ".cache" / "edgeward"
