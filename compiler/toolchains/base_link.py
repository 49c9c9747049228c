"""How a layer sees the packages of the toolchain below it: one line in a `.pth` file."""

from __future__ import annotations

import os
from pathlib import Path

from .site import Site

_NAME = "edgeward-base.pth"


def link_base(site: Site, base: Site) -> None:
    """Let a layer import what its base holds.

    The path is relative, so that it outlives a cache that was moved, or that was reached over a
    link when the layer was made.
    """
    line = os.path.relpath(base.site_packages, site.site_packages)
    (site.site_packages / _NAME).write_text(f"{line}\n", encoding="utf-8")


def link_trouble(site: Site, base: Site) -> str | None:
    """Return why a layer does not see its base, None where it does."""
    try:
        line = (site.site_packages / _NAME).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return "its link to its base is gone"
    # Python joins it as text: `..` leads out of a linked folder as it was named.
    place = Path(os.path.normpath(site.site_packages / line))
    if not place.is_dir() or not place.samefile(base.site_packages):
        return f"its link to its base leads to {place}"
    return None
