"""The real model that the demo uses."""

from __future__ import annotations

import sys
from pathlib import Path

from documents import ROOT


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2, downloaded the first time."""
    sys.path.insert(0, str(ROOT / "examples" / "demo"))
    try:
        from model import fetch_model  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    folder: Path = fetch_model()
    return folder
