"""llama.cpp for this Python: the packages of its toolchain."""

from __future__ import annotations

import sys
from pathlib import Path

from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains

_PACKAGES = ("llama_cpp", "diskcache")


def llama_here(folder: Path) -> Path:
    """Make them importable here; returns the folder that another process has to have on its path.

    llama-cpp-python loads its library through ctypes, so that any Python may.
    """
    site = Toolchains().ensure("llama", NullReporter()).site_packages
    folder.mkdir(exist_ok=True)
    for name in _PACKAGES:
        (folder / name).symlink_to(site / name)
    sys.path.append(str(folder))
    return folder
