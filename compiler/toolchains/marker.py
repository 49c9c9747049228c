"""The file that makes an environment a finished toolchain, and what can be wrong with one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from edgeward.runtimes.bundle.durable import sync

from ..folders import folder_size
from ..installed import installed_versions
from .base_link import link_trouble
from .site import Site

_NAME = "edgeward-toolchain.json"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Marker:
    """What was made: whose digest, which versions, how large."""

    digest: str
    versions: Mapping[str, str]
    size_bytes: int


def write_marker(site: Site, versions: Mapping[str, str]) -> None:
    """Declare an environment finished; the last act of making it, fsynced."""
    for path in (site.site_packages, site.folder):
        sync(path)
    marker = {"digest": site.digest, "versions": dict(versions), "size": folder_size(site.folder)}
    path = site.folder / _NAME
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as sink:
        json.dump(marker, sink, indent=1)
        sink.flush()
        os.fsync(sink.fileno())
    fresh.rename(path)
    sync(site.folder)


def read_marker(site: Site) -> Marker | None:
    """Return the marker, None where there is none or it cannot be read."""
    try:
        data = json.loads((site.folder / _NAME).read_bytes()[:_MAX_BYTES])
        versions = {str(name): str(version) for name, version in data["versions"].items()}
        return Marker(str(data["digest"]), versions, int(data["size"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def trouble_of(site: Site) -> str | None:
    """Return why a toolchain cannot be believed in, None where it can."""
    if not site.folder.exists():
        return "it was not made yet"
    marker = read_marker(site)
    if marker is None:
        return "it was never finished"
    if marker.digest != site.digest:
        return "it was made from another lock"
    if not os.access(site.python, os.X_OK):
        return "its Python is gone"
    if site.base is not None:
        below = trouble_of(site.base)
        if below is not None:
            return f"its base {site.base.name}: {below}"
        unlinked = link_trouble(site, site.base)
        if unlinked is not None:
            return unlinked
    return _changed(site, marker)


def versions_of(site: Site) -> dict[str, str]:
    """Return what is installed in the environment and below it, and its Python's version.

    pip only made it, takes no part in any stage and may be upgraded at will.
    """
    places = [layer.site_packages for layer in reversed(site.layers)]
    versions = {**installed_versions(*places), "python": site.interpreter.version}
    return {name: version for name, version in versions.items() if name != "pip"}


def _changed(site: Site, marker: Marker) -> str | None:
    now = versions_of(site)
    for name, version in marker.versions.items():
        if name not in now:
            return f"{name} is gone"
        if now[name] != version:
            return f"{name} is {now[name]}, was {version}"
    return None
