"""A hub cache with a real model in it: a hub id resolves without a network."""

from __future__ import annotations

from pathlib import Path

from real_model import minilm

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
_COMMIT = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"


def hub_cache(home: Path) -> Path:
    """Lay the model that the demo uses out as `huggingface_hub` caches it; return HF_HOME."""
    repository = home / "hub" / f"models--{HUB_ID.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(_COMMIT)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / _COMMIT).symlink_to(minilm())
    return home
