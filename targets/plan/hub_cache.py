"""What the hub's own client keeps on this machine: a repository's files at a commit.

Its layout is `models--OWNER--NAME/refs/REVISION`, which holds a commit, and `snapshots/COMMIT/`:
huggingface.co/docs/huggingface_hub/guides/manage-cache. The client is no dependency of a device,
and takes longer to import than a plan may.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")
_YES = ("1", "ON", "YES", "TRUE")
_MOST = 100
# The variables that say where the cache is, the first that is set.
_PLACES = (
    ("HF_HUB_CACHE", ""),
    ("HUGGINGFACE_HUB_CACHE", ""),
    ("HF_HOME", "hub"),
    ("XDG_CACHE_HOME", "huggingface/hub"),
)


def cached(repository: str, revision: str) -> Path | None:
    """Return the folder of a repository's files at a revision, None where it was not downloaded.

    `revision` is a commit, or a branch or tag as it was when it was last downloaded.
    """
    if ".." in revision.split("/"):
        return None
    home = _cache() / f"models--{repository.replace('/', '--')}"
    commit = revision if is_commit(revision) else _read(home / "refs" / revision)
    folder = home / "snapshots" / commit
    return folder if is_commit(commit) and (folder / "config.json").is_file() else None


def is_commit(revision: str) -> bool:
    """Say whether a revision is a whole commit, which is the same here and on the hub."""
    return _COMMIT.fullmatch(revision) is not None


def is_offline() -> bool:
    """Say whether the hub is not to be asked, by the name that its own client reads it from."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _YES


def _cache() -> Path:
    for name, under in _PLACES:
        if place := os.environ.get(name):
            return Path(os.path.expandvars(place)).expanduser() / under
    return Path.home() / ".cache" / "huggingface" / "hub"


def _read(path: Path) -> str:
    try:
        with path.open(encoding="ascii") as file:
            return file.read(_MOST).strip()
    except (OSError, ValueError):
        return ""
