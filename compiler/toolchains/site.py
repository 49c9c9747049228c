"""Where a toolchain is or would be: a pure function of locks, Python and torch build."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from edgeward.runtimes.bundle.canonical import JSON, digest

from .from_source import processor
from .interpreters import Interpreter, find_interpreter
from .lock import Lock, read_lock, torch_version
from .registry import lock_path

_LAYOUT = 1
_SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Site:
    """One layer: its folder, lock, interpreter and digest, and the layer below it.

    `torch` is the exact version, build included, that this layer holds or must not change.
    """

    folder: Path
    lock: Lock
    interpreter: Interpreter
    digest: str
    torch: str | None
    torch_build: str
    base: Site | None

    @property
    def name(self) -> str:
        """The toolchain's name."""
        return self.lock.name

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        version = f"python{self.interpreter.version}"
        return self.folder / "lib" / version / "site-packages"

    @property
    def lock_file(self) -> Path:
        """What two makers contend for."""
        return self.folder.with_name(f"{self.folder.name}.lock")

    @property
    def layers(self) -> tuple[Site, ...]:
        """Itself and what is below, the lowest first."""
        return (*(self.base.layers if self.base else ()), self)


def find_site(root: Path, name: str, torch_build: str) -> Site:
    """Return the place of a toolchain; raises ToolchainError for a bad lock or no Python."""
    locks = [read_lock(name, lock_path(name))]
    while locks[-1].base is not None and len(locks) < 8:
        base = locks[-1].base
        locks.append(read_lock(base, lock_path(base)))
    interpreter = find_interpreter(*locks)
    site: Site | None = None
    for lock in reversed(locks):
        site = _layer(root, lock, interpreter, torch_build, site)
    if site is None:
        raise ValueError("a toolchain has at least one layer")
    return site


def _layer(
    root: Path, lock: Lock, interpreter: Interpreter, torch_build: str, base: Site | None
) -> Site:
    torch = base.torch if base else None
    if lock.torch is not None:
        torch = torch_version(lock.torch, torch_build, sys.platform)
    whole = digest(
        {
            "layout": _LAYOUT,
            "pins": sorted(lock.pins),
            "torch": torch,
            "base": base.digest if base else None,
            "python": f"{sys.implementation.name}-{interpreter.version}",
            "platform": f"{sys.platform}-{platform.machine()}",
            **_built(lock),
        }
    )
    folder = root / f"{lock.name}-{whole[:_SHOWN_DIGITS]}"
    return Site(folder, lock, interpreter, whole, torch, torch_build, base)


def _built(lock: Lock) -> dict[str, JSON]:
    """What decides besides about a layer with parts from source: what is compiled fits one CPU."""
    built: dict[str, JSON] = {}
    if lock.compiled:
        built |= {"settings": list(lock.settings), "processor": processor()}
    if lock.unpacked:
        built["unpacked"] = [[one.pin, *one.paths] for one in lock.unpacked]
    return built
