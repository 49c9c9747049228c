"""A cache with every toolchain made and no stage done."""

from __future__ import annotations

from pathlib import Path

from edgeward.compiler.cache_dir import cache_root


def fresh_cache(folder: Path) -> Path:
    """Make it at `folder`; the toolchains are the user's own."""
    shared = cache_root() / "toolchains"
    shared.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    (folder / "toolchains").symlink_to(shared)
    return folder
