"""Which packages a Core ML model has: the one that is named, its chunks, and its other graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ENTRY = "Manifest.json"
_CHUNK = "chunk"


@dataclass(frozen=True, slots=True)
class Packages:
    """`chunks` run one after the other, the named package first; `parts` are models beside it."""

    chunks: tuple[Path, ...]
    parts: Mapping[str, Path]


def packages_of(path: Path, parts: Mapping[str, Path]) -> Packages:
    """Sort a manifest's parts: `chunk2`, … belong to the model, an `encoder` stands beside it."""
    numbered = {_number(role): place for role, place in parts.items() if _number(role)}
    chunks = (path, *(numbered[number] for number in sorted(numbered)))
    others = {role: package_of(place) for role, place in parts.items() if not _number(role)}
    return Packages(tuple(map(package_of, chunks)), others)


def package_of(path: Path) -> Path:
    """Return the package's folder: an entry is a file in it."""
    return path.parent if path.name == ENTRY else path


def _number(role: str) -> int:
    digits = role.removeprefix(_CHUNK)
    return int(digits) if role.startswith(_CHUNK) and digits.isdecimal() else 0
