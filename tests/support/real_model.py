"""The real model that the demo uses."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest import mock

from documents import ROOT

from edgeward.compiler.cache_dir import cache_root

# Before any test has a cache of its own.
CACHE = cache_root()


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2, downloaded the first time."""
    sys.path.insert(0, str(ROOT / "examples" / "demo"))
    try:
        from model import fetch_model  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    with mock.patch.dict(os.environ, EDGEWARD_CACHE=str(CACHE)):
        folder: Path = fetch_model()
    return folder
