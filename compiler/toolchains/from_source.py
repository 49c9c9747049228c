"""What a toolchain takes from source distributions: packages built here, and parts of a source."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from edgeward.errors import ToolchainError

from .lock import Lock, Unpacked

_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("flags", "Features")


def processor() -> str:
    """Return a short name of the instructions that this processor has.

    What is built for one processor stops with an illegal instruction on an older one.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    flags = next((line for line in lines if line.split("\t")[0].strip() in _FLAGS), "")
    words = " ".join(sorted(set(flags.partition(":")[2].split())))
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def require_compiler(lock: Lock) -> None:
    """Raise ToolchainError, before anything is downloaded, where nothing here compiles C++."""
    if not lock.compiled or os.environ.get("CXX") or any(map(shutil.which, _COMPILERS)):
        return
    raise ToolchainError(
        f"toolchain {lock.name} needs a C++ compiler",
        why=f"{', '.join(lock.compiled)} is built here, for this processor",
        next=f"apt-get install g++ (or xcode-select --install), then edgeward doctor --fix "
        f"{lock.name}",
    )


def build_settings(lock: Lock) -> Mapping[str, str]:
    """Return the environment variables that its packages are built with."""
    pairs = (setting.partition("=") for setting in lock.settings)
    return {name: value for name, _, value in pairs}


def unpack(archive: Path, wanted: Unpacked, site_packages: Path) -> None:
    """Copy the wanted files and folders of a source archive into site-packages.

    Raises ToolchainError where the archive lacks one.
    """
    with tarfile.open(archive) as opened:
        members = [member for member in opened.getmembers() if member.isfile()]
        for path in wanted.paths:
            found = [member for member in members if _is_below(member.name, path)]
            if not found:
                raise ToolchainError(f"{wanted.pin} has no {path}", why=f"looked in {archive.name}")
            for member in found:
                _write(opened, member, site_packages / _place(member.name, path))


def _inside(name: str) -> PurePosixPath:
    """The path below the archive's only folder."""
    return PurePosixPath(*PurePosixPath(name).parts[1:])


def _is_below(name: str, path: str) -> bool:
    inside = _inside(name)
    return ".." not in inside.parts and (
        inside == PurePosixPath(path) or PurePosixPath(path) in inside.parents
    )


def _place(name: str, path: str) -> PurePosixPath:
    return _inside(name).relative_to(PurePosixPath(path).parent)


def _write(opened: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    source = opened.extractfile(member)
    if source is None:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with source, place.open("wb") as file:
        shutil.copyfileobj(source, file)
