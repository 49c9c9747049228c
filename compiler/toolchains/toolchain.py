"""A toolchain as data, and the states it can be in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["missing", "ready", "broken", "building"]


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A virtual environment made from a lock file, ready to run stages.

    `locks` are what a process holds, shared, while it uses the layers.
    """

    name: str
    python: Path
    digest: str
    site_packages: Path
    versions: Mapping[str, str]
    locks: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolchainStatus:
    """What a toolchain is now, why it is not ready, its folder and its size on disk."""

    name: str
    state: State
    reason: str
    folder: Path
    size_bytes: int
    description: str
    fix: str
