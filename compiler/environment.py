"""This Python's own environment, as if it were a toolchain."""

from __future__ import annotations

import functools
import platform
import sys
import sysconfig
from pathlib import Path

from edgeward.runtimes.bundle.canonical import digest

from .installed import installed_versions
from .toolchains.toolchain import Toolchain


@functools.cache
def own_environment(name: str) -> Toolchain:
    """Return it; its digest changes with any installed version."""
    versions = installed_versions()
    tag = f"{sys.implementation.name}-{sys.platform}-{platform.machine()}"
    return Toolchain(
        name=name,
        python=Path(sys.executable),
        digest=digest({"python": tag, "versions": versions}),
        site_packages=Path(sysconfig.get_path("purelib")),
        versions=versions,
    )
