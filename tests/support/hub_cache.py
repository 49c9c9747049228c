"""A hub cache with a real model in it: a hub id resolves without a network."""

from __future__ import annotations

import sys
from pathlib import Path

from documents import ROOT

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
_COMMIT = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"


def hub_cache(home: Path) -> Path:
    """Lay the model that the demo uses out as `huggingface_hub` caches it; return HF_HOME."""
    sys.path.insert(0, str(ROOT / "examples" / "demo"))
    from model import fetch_model  # type: ignore[import-not-found]

    repository = home / "hub" / f"models--{HUB_ID.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(_COMMIT)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / _COMMIT).symlink_to(fetch_model())
    return home
